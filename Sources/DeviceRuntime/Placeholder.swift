// Placeholder until the target's first file lands; removed with it.
