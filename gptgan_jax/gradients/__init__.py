"""How a judgement becomes a gradient of the generator: the families of estimators, and what they share."""
