"""How networks are trained: classifiers, the network of styles, and the small networks of studies."""
