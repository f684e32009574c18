package server

// HOLDFAST is the command that Redis does not have. Its subcommands' rows stand in server/command/holdfast_specs.go, their
// functions in holdfast_*.go and verify_cmd.go.

// holdfastSubcommands maps the name of each subcommand to what runs it.
var holdfastSubcommands = map[string]sessionHandler{
	"digest":        plain(waits, (*session).cmdDigest),
	"help":          plain(anywhere, (*session).cmdHelp),
	"keys":          plain(waits, (*session).cmdDigestKeys),
	"log":           plain(waits, (*session).cmdHoldfastLog),
	"mark":          plain(waits, (*session).cmdMark),
	"marked":        plain(waits, (*session).cmdMarked),
	"psync-explain": plain(waits, (*session).cmdPsyncExplain),
	"slots":         plain(waits, (*session).cmdHoldfastSlots),
	"unmark":        plain(waits, (*session).cmdUnmark),
}

// addHoldfast adds them under their full names.
func addHoldfast(h map[string]sessionHandler) {
	for name, handler := range holdfastSubcommands {
		h["holdfast|"+name] = handler
	}
}
