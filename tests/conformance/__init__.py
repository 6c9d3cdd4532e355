"""What each request must get, item by item, through both adapters."""
