package command

// notKeys is the key specification of shard channels: they stand where keys do and are none.
func notKeys(last int) []KeySpec {
	return []KeySpec{{Flags: []string{"not_key"}, BeginIndex: 1, LastKey: last, Step: 1}}
}

const subscribing = FlagPubsub | FlagNoscript | FlagLoading | FlagStale

// pubsubSpecs are publish and subscribe; as in sessionSpecs, the session layer runs them.
var pubsubSpecs = []Spec{
	{
		Name: "subscribe", Arity: -2,
		Flags: subscribing, ACL: CatPubsub | CatSlow,
		Group: "pubsub", Since: "2.0.0", Complexity: "O(N)",
		Summary: "Subscribes to channels.",
		Syntax:  "channel...",
	},
	{
		Name: "unsubscribe", Arity: -1,
		Flags: subscribing, ACL: CatPubsub | CatSlow,
		Group: "pubsub", Since: "2.0.0", Complexity: "O(N)",
		Summary: "Ends subscriptions to channels, all of them if none is named.",
		Syntax:  "[channel...]",
	},
	{
		Name: "psubscribe", Arity: -2,
		Flags: subscribing, ACL: CatPubsub | CatSlow,
		Group: "pubsub", Since: "2.0.0", Complexity: "O(N)",
		Summary: "Subscribes to all channels that match patterns.",
		Syntax:  "pattern:{pattern:pattern}...",
	},
	{
		Name: "punsubscribe", Arity: -1,
		Flags: subscribing, ACL: CatPubsub | CatSlow,
		Group: "pubsub", Since: "2.0.0", Complexity: "O(N)",
		Summary: "Ends subscriptions to patterns, all of them if none is named.",
		Syntax:  "[pattern:pattern...]",
	},
	{
		Name: "ssubscribe", Arity: -2,
		Flags: subscribing, ACL: CatPubsub | CatSlow,
		FirstKey: 1, LastKey: -1, Step: 1, KeySpecs: notKeys(-1),
		Group: "pubsub", Since: "7.0.0", Complexity: "O(N)",
		Summary: "Subscribes to shard channels.",
		Syntax:  "shardchannel...",
	},
	{
		Name: "sunsubscribe", Arity: -1,
		Flags: subscribing, ACL: CatPubsub | CatSlow,
		FirstKey: 1, LastKey: -1, Step: 1, KeySpecs: notKeys(-1),
		Group: "pubsub", Since: "7.0.0", Complexity: "O(N)",
		Summary: "Ends subscriptions to shard channels, all of them if none is named.",
		Syntax:  "[shardchannel...]",
	},
	{
		Name: "publish", Arity: 3,
		Flags: FlagPubsub | FlagLoading | FlagStale | FlagFast | FlagMayReplicate, ACL: CatPubsub | CatFast,
		Group: "pubsub", Since: "2.0.0", Complexity: "O(N+M)",
		Summary: "Sends a message to a channel and returns how many got it.",
		Syntax:  "channel message",
	},
	{
		Name: "spublish", Arity: 3,
		Flags: FlagPubsub | FlagLoading | FlagStale | FlagFast | FlagMayReplicate, ACL: CatPubsub | CatFast,
		FirstKey: 1, LastKey: 1, Step: 1, KeySpecs: notKeys(0),
		Group: "pubsub", Since: "7.0.0", Complexity: "O(N)",
		Summary: "Sends a message to a shard channel and returns how many got it.",
		Syntax:  "shardchannel message",
	},
	{
		Name: "pubsub", Arity: -2,
		ACL:   CatSlow,
		Group: "pubsub", Since: "2.8.0", Complexity: "Depends on the subcommand",
		Summary: "A container for commands about subscriptions.",
		Subcommands: []Spec{
			{
				Name: "channels", Arity: -2,
				Flags: FlagPubsub | FlagLoading | FlagStale, ACL: CatPubsub | CatSlow,
				Group: "pubsub", Since: "2.8.0", Complexity: "O(N)",
				Summary: "Lists the channels that have subscribers.",
				Syntax:  "[pattern:pattern]",
			},
			{
				Name: "help", Arity: 2,
				Flags: FlagLoading | FlagStale, ACL: CatSlow,
				Group: "pubsub", Since: "6.2.0", Complexity: "O(1)",
				Summary: "Describes the subcommands.",
			},
			{
				Name: "numpat", Arity: 2,
				Flags: FlagPubsub | FlagLoading | FlagStale, ACL: CatPubsub | CatSlow,
				Group: "pubsub", Since: "2.8.0", Complexity: "O(1)",
				Summary: "Counts the patterns that have subscribers.",
			},
			{
				Name: "numsub", Arity: -2,
				Flags: FlagPubsub | FlagLoading | FlagStale, ACL: CatPubsub | CatSlow,
				Group: "pubsub", Since: "2.8.0", Complexity: "O(N)",
				Summary: "Counts the subscribers of channels.",
				Syntax:  "[channel...]",
			},
			{
				Name: "shardchannels", Arity: -2,
				Flags: FlagPubsub | FlagLoading | FlagStale, ACL: CatPubsub | CatSlow,
				Group: "pubsub", Since: "7.0.0", Complexity: "O(N)",
				Summary: "Lists the shard channels that have subscribers.",
				Syntax:  "[pattern:pattern]",
			},
			{
				Name: "shardnumsub", Arity: -2,
				Flags: FlagPubsub | FlagLoading | FlagStale, ACL: CatPubsub | CatSlow,
				Group: "pubsub", Since: "7.0.0", Complexity: "O(N)",
				Summary: "Counts the subscribers of shard channels.",
				Syntax:  "[shardchannel...]",
			},
		},
	},
}
