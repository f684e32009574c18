package command

// families lists the tables of all families. To add a family: write its file with its specs and name them here.
func families() [][]Spec {
	return [][]Spec{
		stringSpecs, bitmapSpecs, genericSpecs, hashSpecs, hashExpireSpecs, listSpecs, setSpecs, zsetSpecs, connectionSpecs, sessionSpecs,
		pubsubSpecs, holdfastSpecs,
	}
}
