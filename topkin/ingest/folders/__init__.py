"""What a folder of the user is: hive partitions, a table of a lake, files of other formats."""
