"""Who asks: tokens from a file or from Keystone, signatures of access keys."""
