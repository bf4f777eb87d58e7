"""The version once more, in the file that Salt brings last: the package is whole if it is here."""

VERSION = "0.1.0"
