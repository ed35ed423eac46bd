"""What is done to runs that are made: kept, compared, collected, and cleared of users."""
