"""The paper's Table 7 in miniature: compressors, kept tokens and positions at equal budget, one table with seeds."""
