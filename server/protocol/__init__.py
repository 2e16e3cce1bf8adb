"""What each entry of the event log shows as on the thread event stream ("protocol v2"). Pure."""
