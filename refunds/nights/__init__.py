"""What is told of a night: its report as a value, as a sheet, as a page. Pure."""
