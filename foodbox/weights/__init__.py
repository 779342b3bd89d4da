"""Where weights come from and go to. Other people's names and orders of tensors live here only."""
