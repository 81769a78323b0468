"""Files that strangers could write: model folders, recipes and features, made one fault at a time; and guards."""
