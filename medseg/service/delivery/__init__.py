"""Ways out: to archives by C-STORE or STOW-RS, and to folders, until they confirm."""
