//! The command line: arguments to settings, command, printer.
