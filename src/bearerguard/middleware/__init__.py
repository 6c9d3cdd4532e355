"""What both adapters and all frameworks share."""
