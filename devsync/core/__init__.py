"""The part that thinks: functions over immutable data, no input or output, no clock, no threads."""
