"""The one exception for mistakes that a user can mend."""


class UserError(Exception):
  """Bad input: the message says what was given, what was expected, what to do.

  The command line prints the message alone, without a traceback, and exits
  with a non-zero status. Everything else that is raised is a defect of ours.
  """


class DataError(UserError):
  """A record or image that cannot be read; names data set, split and record."""
