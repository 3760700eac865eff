"""The work of the developer's commands, a module each, imported only when the command runs."""
