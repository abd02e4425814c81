"""The words by which scanners, programs and people call images: kinds that are no contrast, contrasts, agents, BIDS."""

from __future__ import annotations

import re

AGENT = "T1 with contrast agent"
BOTH = "T1 with and without contrast agent"  # one name for two images: which of them it is cannot be told
CONTRASTS = frozenset({"T1", "T2", "FLAIR", "T2*", "PD", "STIR", AGENT})

# What is no weighted image of its own, by what ImageType says; DICOM part 3, C.7.6.1.1.2 and the vendors' values.
STATED = {
    "localizer": {"LOCALIZER", "SCOUT", "SURVEY"},
    "phase": {"P", "PHASE", "PHASE MAP", "PHASE_MAP", "PHASE MAP UNWRAPPED", "VELOCITY", "VELOCITY MAP", "FLOW"},
    "half of a complex image": {"R", "REAL", "I", "IMAGINARY"},
    "Dixon": {"DIXON", "WATER", "FAT", "IN_PHASE", "OUT_PHASE", "OPP_PHASE", "W", "F", "IP", "OP"}
    | {"FAT_FRACTION", "WATER_FRACTION", "FF"},
    "subtraction": {"SUB", "SUBTRACTION", "SUBTRACT"},
    "diffusion": {"ADC", "TRACEW", "TRACE", "DIFFUSION", "FA", "EXP", "EADC", "DWI", "TENSOR", "TENSOR_B0", "COLFA"},
    "angiography": {"ANGIO", "TOF", "TIME_OF_FLIGHT", "FLOW_ENCODED", "MRA", "PCA", "M_PCA"},
    "projection": {"MIP", "PROJECTION IMAGE", "MINIP", "MNIP", "CSA MIP", "CSAPARALLEL", "MAX_IP", "MIN_IP"}
    | {"VOLUME_RENDER", "SURFACE_RENDER", "CURVED_MPR", "VOLUME RENDERING", "MAXIMUM", "MINIMUM"},
    "perfusion": {"PERFUSION", "CBF", "CBV", "MTT", "TTP", "ASL", "RELCBF", "PBP", "GBP", "TMAX"}
    | {"RCBV", "RCBF", "RELENH", "MAXENH", "MAXRELENH", "WASHIN", "WASHOUT", "BREVENH", "AREACURV"},  # of Philips
    "function": {"FMRI", "BOLD", "T-MAP", "TMAP", "T_TEST"},
    "T1map": {"T1 MAP", "T1_MAP", "T1MAP", "R1 MAP", "R1"},
    "T2map": {"T2 MAP", "T2_MAP", "T2MAP", "T2_STAR MAP", "T2STAR_MAP", "R2 MAP", "R2STAR_MAP", "R2_STAR MAP"}
    | {"R2", "R2_STAR"},
    "computed map": {"RHO", "STD_DEVIATION", "PROTON DENSITY MAP", "DIVISION", "MULTIPLICATION", "QUANTITY"}
    | {"METABOLITE_MAP", "TEMPERATURE", "STIFFNESS"},
    "field map": {"B0", "B0 MAP", "FIELD_MAP", "FIELD MAP", "B1", "B1 MAP"},
    "susceptibility": {"SWI", "QSM", "SUSCEPTIBILITY"},
    "spectroscopy": {"SPECTROSCOPY", "CSI"},
    "screen capture": {"SCREEN SAVE", "SCREEN_SAVE", "SCREENSAVE", "SCREEN CAPTURE", "CAPTURE"},
}

# The same by words, in English, German, French and Spanish, without accents; not inside of longer words.
KINDS = {
    "localizer": r"locali[sz]er|localizador|lokali[sz]i?er\w*|localisateur|loc|survey|topogra\w*|reperage"
    r"|schnitt(plan|fue?hr)\w*|^plan(ung|ning|ificacion|s)?$|plan ?scan|smartbrain|\w*scout\w*|\w*setter|3[ -]?plane?"
    r"|3[ -]?ebenen|tri[ -]?plan\w*|asset ?cal\w*|calibration|kalibrier\w*|senseref\w*|ref[ -]?scan"
    r"|coil ?(survey|sens\w*)|3 ?pl|loca|scano|topo|centra(ge|tore)|locali[sz]a(tion|cion)|reperes?|posizionamento"
    r"|pla(no|ner)s?|auto ?align\w*|ue?bersicht\w*|locator|pre ?scan|scanogram\w*|定位|位置決め",
    "inversion image": r"inv[ -]?[12]|ti[12]",
    "T1map": r"mp2?rage[ \w]* t1[ -]?(images?|map)|t1[ -]?map\w*|r1[ -]?map|qt1|\w*molli\w*|sasha|despot\d?|vfa",
    "T2map": r"q?t2[ -]?(\w+ )?map\w*|q ?t2|msme|mw[fi]|r2[ -]?(map|star|\*)|t2[ -]?(star|\*)[ -]?map",
    "several echoes": r"mese|me ?(se|gre)|mgre|multi ?echo(s|es)?(?!.*(rage|rms))",
    "T1rho": r"t1[ -]?rho\w*",
    "Dixon": r"m?dixon|lava ?flex|(in|opp|out) ?phase|(fat|water)( only| image)?|(fett|wasser)(bild)?|eau|agua",
    "subtraction": r"subs?tra\w+|soustraction|sustraccion|sottraz\w+|subtr|sub$|minus|difference|delta",
    "phase": r"ph|pha|phase( images?)?|phasen(bild\w*)?",
    "field map": r"\w*field ?map\w*|feldkarte|fmap|fm2d\w*|gre ?field\w*|b[01][ -]?map\w*|topup|shim\w*|tfl ?b1\w*",
    "diffusion": r"dwi\w*|dti\w*|dki|dmri|ivim|\w*diffusivity|^fa$|[de]?adc|[de]?adc ?map|tracew?|diffusion\w*|difusion"
    r"|fa ?map|colfa|colou?r ?fa|tensor|ep2d ?diff\w*|ep ?b\d+|average ?dc|fractional ?aniso\w*|b ?(0|50)"
    r"|diff|iso ?adc|resolve|zoom ?it|hardi|dsi|noddi|b ?= ?\d+|b ?[1-9]\d*00(?= (s|trace|adc|ax|tra)|$)|^[mar][dk]$",
    "flow or motion": r"[q4]? ?d? ?flow(?! ?(comp|void))|qflow|venc\w*|fq[23]d\w*|cine|tagging|mre|elasto\w*|stiffness",
    "function": r"bold\w*|[rt]?fmri\w*|sbref|rs ?fmri|resting ?state|ep2d ?bold\w*",
    "perfusion": r"perf|perfusion\w*|asl|p?casl|pasl|pwi|dsc(?! ?\d)|dce|dyn(ami\w+)?|m0(scan)?|(r(el)?)?cb[fv]"
    r"|mtt|ttp|dina\w+|k ?trans|i?auc|wash ?(in|out)|permeab\w*|grasp|cdt",
    "angiography": r"tof\w*|time of flight|angio\w*|mra|mrv|venogra\w*|twist|tricks|cemra|pca|phase ?contrast"
    r"|phasenkontrast|arm|fl3d ?ce|inhance\w*",
    "projection": r"mips?|minips?|(mpr )?(thick )?range|vrt|ssd|curved|(shaded )?surface(?! coil)|volume ?render\w*",
    "spectroscopy": r"svs|csi|mrsi?|spectro\w*|spektro\w*",
    "magnetisation transfer": r"mt[cr]?|ihmt|cest|apt[wc]?|mt ?(on|off|w|sat)|magneti[sz]ation ?transfer",
    "susceptibility": r"qsm|suscept\w*|sw ?phase",
    "screen capture": r"screen ?(save|shot|capture)|phoenix ?zip ?report|(dose|structured) report|key ?images?"
    r"|pos ?disp\w*|(exam|patient) ?protocol",
    "double inversion": r"dir(?=$| (ax|sag|cor|tra|3d|space|cube))|double ?ir|double inversion",
    "unnamed channel": r"unnamed channel",  # of nnU-Net, without its dataset.json
    "synthetic MR": r"symri|magic|synth(seg|sr)?|mrf|(mr ?)?finger ?print\w*|(3d ?)?qalas",
    "label map": r"seg|segm\w*|dseg|labels?|(\w+ ?)?mask\d*|aseg|aparc|parc(ellation)?|atlas|roi\w*|tissue ?class\w*"
    r"|\w*labels|\w*segmentation|f?seg\d*|lesions?(?! ?fill)|wmh|[gc]tv|mixeltype",
    "tissue map": r"pve( ?\d)?|(\w+ ?)?prob(ability|seg|map)?|pveseg|\w*posteriors?\d*|ples ?l[gp]a"
    r"|gm|(?<= )wm(?! ?null)|csf(?! ?(flow|null|drive|supp|sat|atten))"
    r"|^(u )?[smwru]*(c[1-6](?=[a-ce-z])|p[0-6](?=t[12]|sub)|(?<=w)p[0-3](?=[a-z]))\w*",  # as SPM and CAT12 begin names
    "computed map": r"bias( ?field)?(?! ?(field ?)?(corr|rem|free))|\w*biasfield|\d?(inverse ?)?warp(field)?"
    r"|\w*\d(inverse)?warp|(non ?lin|warp|deformation|displacement)s? ?(fields?|coeff?s?)|jac(obian)?\w*|\w*jacobian"
    r"|(?<!slice )\w*thickness|curvature|\w*divided ?by\w*|myelin\w*|\w*ratio|residuals?|g ?factor\w*|overlay"
    r"|fus(ed|ion)|relaxo\w*|parametric\w*|snr|noise(?! ?(red|corr|supp|filter))|error ?map|oef"
    r"|(pseudo|s) ?ct|pd[ -]?map|u ?map|mu ?map|mrac",
    "template": r"template\d*|^(mni|icbm|avg|colin)\d+\w*|^single subj",
    "spine": r"[chtlb]ws|[ctls]{0,2} ?spine|spinal|lumbar\w*|cervical\w*|thoracic|lumbal\w*|wirbel\w*"
    r"|halswirbel\w*|rachis|colonne|columna|moelle|medular|rue?ckenmark|myelo\w*|mielo\w*|lombaire|dorsal\w*|hwk"
    r"|[ctl] s(?= (t[12]|ax|sag|cor|tra)|$)|gws|rachide|coluna|lombalg\w*|[颈頸胸腰]椎|脊[髓椎]",
    "another part of the body": r"knees?|knie|genou|rodilla|abdom\w*|liver|leber|foie|higado|breast|mamm\w+|prostat\w*"
    r"|pelvi\w*|becken|shoulder|schulter|epaule|hombro|ankle|wrist|heart|cardiac|herz|(?<!head )necks?(?! coil)|hals"
    r"|cuello|cou|larynx|thyroid|th?orax|chest|lungs?|hips?|hue?fte|hanche|cadera|elbow|ellenbogen|coude|codo|foot"
    r"|feet|fuss|pied|hand|mano|kidneys?|nieren?|renal|pancreas|mrcp|rect(um|al)|uter(us|ine)|ovar\w+|bladder|thigh"
    r"|(ober|unter)schenkel|calf|legs?|femur|tibia|sij|isg|sacr\w+|plexus|tmj|kiefergelenk\w*|extremit\w*|finger"
    r"|muscle|mamas?|poignet|polso|punho|muneca|cheville|caviglia|tobillo|ginocchio|joelho|spalla|ombro|addome|bassin"
    r"|gamba|femor\w*|(unter|ober|fore) ?arm|[ou]sg|(vor|mittel)fuss|arthro\w*|f(o)?et(al|us)|placenta|enterogra\w*"
    r"|urogra\w*|uro|lge|exm|whole ?body|ganzkoe?rper|chest\w*|膝|肩|腹部|骨[盆盤]|乳[腺房]|前列腺|肝",
    "steady state": r"ciss|fiesta\w*|true? ?fi(sp)?|b ?[ft]fe|b?ssfp|balanced|dess|psif",
    "echo planar": r"ep2d\w*|epi|epi2d\w*",
}
OTHER_MODALITY = re.compile(r"(?<![a-z0-9])(ct|cta|pet|fdg|suv|spect|ultrasound)(?![a-z0-9])")  # beside no contrast
BODY = "spine", "another part of the body"
HEADS = re.compile(  # what else an exam is of, beside a spine or a knee
    r"head|brain|hirn|kopf|sch?a?e?del|cerv(eau|ello)|cerebr|ence[fp]h?a|cran[ei]|skull|tete|cabe[zc]a|testa|neuro|sella"
    r"|h[iy]po(ph|f)|pituit|orbit|ia[cm]|[头頭颅脑脳]"
)
PHANTOM = re.compile(r"(?<![a-z])([fp]h?antom)", re.IGNORECASE)
TESTED = re.compile(r"(?<![a-z])(acr|adni|agar|eurospin|fbirn|nist|q[ac])(?![a-z])", re.IGNORECASE)
NOBODY = re.compile(r"(anon[a-z]*|de-?identified|removed|unknown|none|n/?a|no ?name|xx+|0+)[ ^_-]*", re.IGNORECASE)
UNITS = frozenset(
    {"ms", "s", "hz", "rad", "mrad", "milliradials", "1/s", "mm2/s", "um2/ms", "%", "ppm", "ppb", "cm/s"}
)  # of maps
OF_KIND = {kind: re.compile(rf"(?<![a-z0-9])({words})(?![a-z0-9])") for kind, words in KINDS.items()}

# A word for a contrast, whatever is written around it: sub-01_T1w, t1_se_tra, AxT2TSE, "T2 FLAIR", BraTS-00002-t2f.
WORDS = {
    "FLAIR": r"flair|dark[ _-]?fluid|fluid[ _-]?attenuat|tirm|(?<![a-z0-9])t2f(?![a-z0-9])",
    "STIR": r"(?<![a-z])stir(?![a-z])",
    "T2*": r"t2w?[ _-]?(ffe|flash|fl[23]d|eg(?![a-z]))|(?<![a-z])(ffe|flash|eg)[ _-]t2"
    r"|gradiente?s?([ _-]echo)?[ _-]t2|t2[ _-]grad|t2s(?![a-z])"
    r"|t2\w*[ _-](echo|eco)[ _-](de[ _-])?gradient|(?<![a-z])merge(?![a-z])|t2[ _-]?(star|\*)|swi"
    r"|(?<![a-z])e?swan(?![a-z])|veno?bold|gre[ _-]?t2|t2[ _-]?gre|hemo(?![a-z])|medic(?![a-z])",
    "T1": r"(?<![a-z0-9])(ax|sag|cor|tra|3d)?t1(?![0-9](?!d))|mp2?[ _-]?rage|spgr|bravo|(?<![a-z])unit1(?![a-z0-9])"
    r"|(?<![a-z0-9])(t1|ir)[ _-]?(fspgr|tfe|ffe)|t1w|(?<![a-z]{2})t1[ _-]",  # no "patient1_"
    "T2": r"(?<![a-z0-9])(ax|sag|cor|tra|3d)?t2(?![0-9](?!d))|t2w|(?<![a-z]{2})t2[ _-]",
    "PD": r"(?<![a-z0-9])(pd|dp)(w|(?![a-z]))|proton|densite|(dual|double)[ _-]?echo",
}
NARROWER = {  # says more than those beside it: "T2 FLAIR" is no T2 in this sense
    "FLAIR": {"T2", "T2*", "PD"},
    "STIR": {"T1", "T2", "PD"},
    "T2*": {"T2", "PD"},
}
OF_AGENT = (
    r"((de|del|di|iv|i\.v\.)[ _-]+)?(contrast\w*|kontrast\w*|gd|gad\w*|km|mdc|inj\w*|civ|c(?!\d)|ce|enh\w*)(?![a-z])"
)
ELSE = r"(?![a-z]|[ _-]?(op|surg|rt|chemo|trauma|proces|treat))"  # what comes after an operation
SATURATED = r"(?![ _-]*(fs|fat|spair|sat|mt|flow))"  # "without fat saturation" says nothing of an agent
OR = r"[ _,/&+-]*(and|und|et|y|e|o|or|puis|then)?[ _,/&+-]*"
WITH = rf"(w/?|with|mit|m|con|com|avec|post|nach|apres|apos|tras|dopo|despues|after){ELSE}"
BARE = rf"(pre|prae|vor|avant|antes|before|prima){ELSE}"
WITHOUT = rf"(w/?o|without|ohne|non?|nicht|kein\w*|sans|sin|sem|senza){ELSE}{SATURATED}"
NATIVE = re.compile(
    rf"(?<![a-z])({BARE}|{WITHOUT})[ _.-]*{OF_AGENT}|(?<![a-z]){BARE}|(?<![a-z])(native?|nativ[ao]|plain|s/c)(?![a-z])"
    r"|(?<![a-z])((pre|non?)[ _-]?(contrast\w*|km|gd|gad\w*|inj\w*|enhanced)|unenhanced)|km[ _-]?frei"
    r"|(?<![a-z])o[ _.]+km|平[扫掃]|単純|非造影"
)
WITH_AGENT = re.compile(
    r"(?<![a-z])t1[ _-]?(c(?!\d)|ce|gd|gad\w*|km)(?![a-z])|\+ ?(c|gd|km|gado)(?![a-z])|(?<![a-z0-9])c ?\+"
    rf"|(?<![a-z]){WITH}[ _./-]*{OF_AGENT}|(?<![a-z])post{ELSE}|(?<![a-z])(post|nach)(km|gd|gad|con)"
    r"|(?<![a-z])(gd|gado\w*|inj(ect\w*)?|km|mdc|ce|c/c|(contrast|kontrast)\w*|enhanced|delayed)(?![a-z])"
    r"|(?<![a-z])(dotarem|clariscan|omniscan|magnevist|prohance|multihance|elucirem|vueway|primovist)(?![a-z])|增[强強]|造影|强化"
)
WITH_AND_WITHOUT = re.compile(
    rf"(?<![a-z0-9])({WITH}{OR}({WITHOUT}|{BARE})|({WITHOUT}|{BARE}){OR}{WITH}|w/?w/?o|pre[ _-]?post)"
    r"|(\+ ?/ ?-|- ?/ ?\+|±)(?! ?f)"
)
NO_AGENT = re.compile(r"\W*|0|((no(ne)?|nil|nein|kein\w*|ohne|aucun|sin|n\W?a|unknown|without)\b.*)")  # of a header

# BIDS: entities such as ses-2, then a suffix that says what the image is.
ENTITIES = (
    "sub ses sample task tracksys acq nuc voi ce trc stain rec dir run mod echo flip inv mt part proc hemi space "
    "split recording chunk seg res den label desc tpl cohort atlas from to mode"
)
BIDS = re.compile(rf"((?:{'|'.join(ENTITIES.split())})-[^_./]+_)+(?P<suffix>[a-z0-9]+)(\.[a-z.]+)?", re.IGNORECASE)
WEIGHTED = {
    **{"T1w": "T1", "UNIT1": "T1", "inplaneT1": "T1", "T2w": "T2", "inplaneT2": "T2"},
    **{"FLAIR": "FLAIR", "PDw": "PD", "T2starw": "T2*", "T2star": "T2*"},
}
OTHER = (  # suffixes of raw images and derivatives that are none of these
    "angio FLASH PD PDT2 MP2RAGE IRT1 MEGRE MESE MPM MTR MTS VFA TB1AFI TB1DAM TB1EPI TB1RFM TB1SRGE TB1TFL RB1COR "
    "T1map T2map T2starmap T1rho R1map R2map R2starmap PDmap MTRmap MTsat MTVmap MWFmap M0map S0map Chimap TB1map "
    "RB1map defacemask bold boldref cbv sbref phase dwi dwiref asl m0scan pet epi fieldmap magnitude magnitude1 "
    "magnitude2 phase1 phase2 phasediff mask dseg probseg xfm ADC FA MD"
)
SUFFIXES = {suffix.casefold(): WEIGHTED.get(suffix, suffix) for suffix in (*WEIGHTED, *OTHER.split())}
ACQUIRED = [
    kind for kind in KINDS if kind not in ("label map", "tissue map", "computed map", "unnamed channel")
]  # acq-
PARTS = {"phase": "phase", "real": "half of a complex image", "imag": "half of a complex image"}
DCM2NIIX = re.compile(r"_(ph|real|imaginary)[a-z]?(_\w{2,3})?(\.nii(\.gz)?)?$")
FIRST_ECHO = re.compile(r"_e1$")  # as dcm2niix names echoes of one series
