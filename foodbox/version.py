"""Which foodbox this is."""

VERSION = "0.1.0"
