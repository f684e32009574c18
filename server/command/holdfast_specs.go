package command

// holdfastSpecs is the one command that Redis does not have: a container for what operators ask of this server. To add a
// subcommand, add its row here, its handler to the session layer's holdfastSubcommands, and its line to the help.
var holdfastSpecs = []Spec{
	{
		Name: "holdfast", Arity: -2,
		ACL:   CatSlow,
		Group: "holdfast", Since: "0.2.0", Complexity: "Depends on the subcommand",
		Summary: "A container for commands about this server's log and its replicas.",
		Subcommands: []Spec{
			{
				Name: "digest", Arity: 6,
				Flags: FlagAdmin | FlagNoscript | FlagStale | FlagNoMulti, ACL: CatAdmin | CatSlow | CatDangerous,
				Group: "holdfast", Since: "0.2.0", Complexity: "O(N)",
				Summary: "Returns digests of the parts of a range of keys at a mark.",
				Syntax:  "token db:int prefix depth:int",
				Tips:    []string{"nondeterministic_output"},
			},
			{
				Name: "help", Arity: 2,
				Flags: FlagLoading | FlagStale, ACL: CatSlow,
				Group: "holdfast", Since: "0.2.0", Complexity: "O(1)",
				Summary: "Describes the subcommands.",
			},
			{
				Name: "keys", Arity: 7,
				Flags: FlagAdmin | FlagNoscript | FlagStale | FlagNoMulti, ACL: CatAdmin | CatSlow | CatDangerous,
				Group: "holdfast", Since: "0.2.0", Complexity: "O(N)",
				Summary: "Describes the keys of a range at a mark.",
				Syntax:  "token db:int prefix after count:int",
				Tips:    []string{"nondeterministic_output"},
			},
			{
				Name: "log", Arity: -2,
				Flags: FlagAdmin | FlagNoscript | FlagLoading | FlagStale, ACL: CatAdmin | CatSlow | CatDangerous,
				Group: "holdfast", Since: "0.2.0", Complexity: "O(log N)",
				Summary: "Tells how far the log reaches, since when, and what keeps it.",
				Syntax:  "[place:(OFFSET offset:int|TIME unix-time-milliseconds:time)]",
				Tips:    []string{"nondeterministic_output"},
			},
			{
				Name: "mark", Arity: 2,
				Flags: FlagAdmin | FlagNoscript | FlagStale | FlagNoMulti, ACL: CatAdmin | CatSlow | CatDangerous,
				Group: "holdfast", Since: "0.2.0", Complexity: "O(N)",
				Summary: "Puts a mark into the stream, at which this server and its replicas can be compared.",
				Tips:    []string{"nondeterministic_output"},
			},
			{
				Name: "marked", Arity: 4,
				Flags: FlagAdmin | FlagNoscript | FlagStale | FlagNoMulti, ACL: CatAdmin | CatSlow | CatDangerous,
				Group: "holdfast", Since: "0.2.0", Complexity: "O(1)",
				Summary: "Waits for a mark and tells where it stands.",
				Syntax:  "token milliseconds:int",
				Tips:    []string{"nondeterministic_output"},
			},
			{
				Name: "psync-explain", Arity: -3,
				Flags: FlagAdmin | FlagNoscript | FlagLoading | FlagStale, ACL: CatAdmin | CatSlow | CatDangerous,
				Group: "holdfast", Since: "0.2.0", Complexity: "O(1)",
				Summary: "Tells how a replica's request would be answered, and why.",
				Syntax:  "offset:int [replication-id]",
				Tips:    []string{"nondeterministic_output"},
			},
			{
				Name: "slots", Arity: -2,
				Flags: FlagAdmin | FlagNoscript | FlagLoading | FlagStale, ACL: CatAdmin | CatSlow | CatDangerous,
				Group: "holdfast", Since: "0.2.0", Complexity: "O(N)",
				Summary: "Lists, creates and drops the slots that keep the log for named replicas.",
				Syntax:  "[operation:(LIST|CREATE slot:{name [offset:int]}|DROP name)]",
				Tips:    []string{"nondeterministic_output"},
			},
			{
				Name: "unmark", Arity: 3,
				Flags: FlagAdmin | FlagNoscript | FlagStale | FlagNoMulti, ACL: CatAdmin | CatSlow | CatDangerous,
				Group: "holdfast", Since: "0.2.0", Complexity: "O(1)",
				Summary: "Drops a mark.",
				Syntax:  "token",
				Tips:    []string{"nondeterministic_output"},
			},
		},
	},
}
