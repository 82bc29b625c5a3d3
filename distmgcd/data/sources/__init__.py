"""Where images come from: Parquet files, folders, torchvision, scikit-learn. Each offers the same Source."""
