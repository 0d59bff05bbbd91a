"""Both stages of the starter model learn here, with PyTorch alone, so that any machine with a GPU will do."""
