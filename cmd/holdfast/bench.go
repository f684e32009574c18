package main

import "github.com/holdfast-db/holdfast/bench"

var benchVerb = verb{
	name: "bench", usage: "bench NAME [flags]",
	help: "measure this program beside redis-server, or kill it under load; without NAME, list what there is",
	run:  bench.Main,
}
