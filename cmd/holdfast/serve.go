package main

import (
	"io"

	"github.com/holdfast-db/holdfast/server"
)

var serveVerb = verb{
	name: "serve", usage: "serve [CONFIG] [--directive value ...]",
	help: "run a server; CONFIG is a file in the format of redis.conf, and any directive of it may be given as a flag",
	run:  func(args []string, _, stderr io.Writer) int { return server.Serve(args, stderr) },
}
