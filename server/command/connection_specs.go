package command

// connectionSpecs are the commands of this family: arity, flags, keys, categories and tips are those that COMMAND INFO of
// Redis 7.0 prints.
var connectionSpecs = []Spec{
	{
		Name: "ping", Arity: -1,
		Flags: FlagFast, ACL: CatFast | CatConnection,
		Group: "connection", Since: "1.0.0", Complexity: "O(1)",
		Summary: "Answers.",
		Syntax:  "[message]",
		Tips:    []string{"request_policy:all_shards", "response_policy:all_succeeded"},
		Handler: cmdPing,
	},
	{
		Name: "echo", Arity: 2,
		Flags: FlagLoading | FlagStale | FlagFast, ACL: CatFast | CatConnection,
		Group: "connection", Since: "1.0.0", Complexity: "O(1)",
		Summary: "Answers with its argument.",
		Syntax:  "message",
		Handler: cmdEcho,
	},
	{
		Name: "time", Arity: 1,
		Flags: FlagLoading | FlagStale | FlagFast, ACL: CatFast,
		Group: "server", Since: "2.6.0", Complexity: "O(1)",
		Summary: "Returns the time of the server.",
		Tips:    []string{"nondeterministic_output"},
		Handler: cmdTime,
	},
	{
		Name: "dbsize", Arity: 1,
		Flags: FlagReadonly | FlagFast, ACL: CatKeyspace | CatRead | CatFast,
		Group: "server", Since: "1.0.0", Complexity: "O(1)",
		Summary: "Returns the number of keys.",
		Tips:    []string{"request_policy:all_shards", "response_policy:agg_sum"},
		Counts:  true,
		Handler: cmdDBSize,
	},
	{
		Name: "flushdb", Arity: -1,
		Flags: FlagWrite, ACL: CatKeyspace | CatWrite | CatSlow | CatDangerous,
		Group: "server", Since: "1.0.0", Complexity: "O(N)",
		Summary: "Deletes all keys of the database.",
		Syntax:  "[async:(ASYNC@4.0.0|SYNC@6.2.0)]",
		History: []string{"4.0.0 ASYNC.", "6.2.0 SYNC."},
		Tips:    []string{"request_policy:all_shards", "response_policy:all_succeeded"},
		Handler: cmdFlushDB,
	},
	{
		Name: "flushall", Arity: -1,
		Flags: FlagWrite, ACL: CatKeyspace | CatWrite | CatSlow | CatDangerous,
		Group: "server", Since: "1.0.0", Complexity: "O(N)",
		Summary: "Deletes all keys of all databases.",
		Syntax:  "[async:(ASYNC@4.0.0|SYNC@6.2.0)]",
		History: []string{"4.0.0 ASYNC.", "6.2.0 SYNC."},
		Tips:    []string{"request_policy:all_shards", "response_policy:all_succeeded"},
		Handler: cmdFlushAll,
	},
	{
		Name: "swapdb", Arity: 3,
		Flags: FlagWrite | FlagFast, ACL: CatKeyspace | CatWrite | CatFast | CatDangerous,
		Group: "server", Since: "4.0.0", Complexity: "O(N)",
		Summary: "Exchanges two databases.",
		Syntax:  "index1:int index2:int",
		Handler: cmdSwapDB,
	},
}
