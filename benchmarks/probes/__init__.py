"""The heads against scikit-learn, faiss and LightGBM on the same folds; see `run`."""
