"""The one exception that means: the user's input is wrong, and this line says what would be right."""


class UserError(ValueError):
    """Bad input. The message is one line: what is wrong, where (file, line or key), what would be right.

    Several mistakes in one configuration are a line each. The command line prints them and exits with status 2; a
    library caller sees an ordinary ValueError.
    """

    @property
    def lines(self) -> list[str]:
        """The mistakes, a line each."""
        return str(self).split("\n")

    def within(self, where: str) -> "UserError":
        """The same error, each of its lines after what it is about: "config.yaml: seed ..."."""
        return UserError("\n".join(f"{where}: {line}" for line in self.lines))
