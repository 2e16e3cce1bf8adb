"""The tools that come with Interlock, one file each."""
