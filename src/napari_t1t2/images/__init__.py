"""Files and arrays: reading, writing, rescaling. Knows neither torch nor Qt."""
