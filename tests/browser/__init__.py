"""What a browser test needs: a TensorBoard process and a watched page."""
