"""Score synthetic images against real ones of the same name: python evaluate.py SYNTHETIC REAL, two folders."""

import sys
from pathlib import Path

from napari_t1t2.images.read import read_image
from napari_t1t2.synthesis.evaluation import Score, evaluate_volumes, mean


def main(synthetic: Path, real: Path) -> Score:
    """Print the scores of each image, and return their mean."""
    scores = []
    for path in sorted(synthetic.iterdir()):
        if path.suffix == ".json" or not (real / path.name).exists():
            continue
        # MR units are arbitrary: the median of the synthetic head is first brought to that of the real one
        score = evaluate_volumes(read_image(path), read_image(real / path.name), match_intensities=True)
        print(f"{path.name}: inside the head {score.head_psnr:.2f} dB, SSIM {score.head_ssim:.3f}")
        scores.append(score)
    return mean(scores)


if __name__ == "__main__":
    print(main(*map(Path, sys.argv[1:])))
