package command

// hashExpireSpecs are the commands on the expiry of fields: arity, flags, keys and categories as of Redis 7.4 and 8.0.
var hashExpireSpecs = []Spec{
	hexpireSpec("hexpire", cmdHExpire, "seconds:int", "Sets the time to live of fields in seconds."),
	hexpireSpec("hpexpire", cmdHPExpire, "milliseconds:int", "Sets the time to live of fields in milliseconds."),
	hexpireSpec("hexpireat", cmdHExpireAt, "unix-time-seconds:time", "Sets the time at which fields expire, in unix seconds."),
	hexpireSpec("hpexpireat", cmdHPExpireAt, "unix-time-milliseconds:time", "Sets the time at which fields expire, in unix milliseconds."),
	httlSpec("httl", cmdHTTL, "Returns the time to live of fields in seconds."),
	httlSpec("hpttl", cmdHPTTL, "Returns the time to live of fields in milliseconds."),
	httlSpec("hexpiretime", cmdHExpireTime, "Returns the time at which fields expire, in unix seconds."),
	httlSpec("hpexpiretime", cmdHPExpireTime, "Returns the time at which fields expire, in unix milliseconds."),
	{
		Name: "hpersist", Arity: -5, FirstKey: 1, LastKey: 1, Step: 1,
		Flags: FlagWrite | FlagFast, ACL: CatWrite | CatHash | CatFast,
		KeySpecs: []KeySpec{{Flags: []string{"RW", "update"}, BeginIndex: 1, LastKey: 0, Step: 1}},
		Group:    "hash", Since: "7.4.0", Complexity: "O(n), n fields",
		Summary: "Removes the expiry of fields.",
		Syntax:  "key FIELDS fields:{numfields:int field...}",
		Handler: cmdHPersist,
	},
	{
		Name: "hgetdel", Arity: -5, FirstKey: 1, LastKey: 1, Step: 1,
		Flags: FlagWrite | FlagFast, ACL: CatWrite | CatHash | CatFast,
		KeySpecs: []KeySpec{{Flags: []string{"RW", "access", "delete"}, BeginIndex: 1, LastKey: 0, Step: 1}},
		Group:    "hash", Since: "8.0.0", Complexity: "O(n), n fields",
		Summary: "Returns the values of fields and removes them.",
		Syntax:  "key FIELDS fields:{numfields:int field...}",
		Handler: cmdHGetDel,
	},
	{
		Name: "hgetex", Arity: -5, FirstKey: 1, LastKey: 1, Step: 1,
		Flags: FlagWrite | FlagFast, ACL: CatWrite | CatHash | CatFast,
		KeySpecs: []KeySpec{{Notes: "RW and UPDATE because it changes the TTL", Flags: []string{"RW", "access", "update"}, BeginIndex: 1, LastKey: 0, Step: 1}},
		Group:    "hash", Since: "8.0.0", Complexity: "O(n), n fields",
		Summary: "Returns the values of fields, and may set or remove their expiry.",
		Syntax: "key [expiration:(EX seconds:int|PX milliseconds:int|EXAT unix-time-seconds:time|PXAT unix-time-milliseconds:time|PERSIST)] " +
			"FIELDS fields:{numfields:int field...}",
		Handler: cmdHGetEx,
	},
	{
		Name: "hsetex", Arity: -6, FirstKey: 1, LastKey: 1, Step: 1,
		Flags: FlagWrite | FlagDenyoom | FlagFast, ACL: CatWrite | CatHash | CatFast,
		KeySpecs: []KeySpec{{Flags: []string{"RW", "update"}, BeginIndex: 1, LastKey: 0, Step: 1}},
		Group:    "hash", Since: "8.0.0", Complexity: "O(n), n fields",
		Summary: "Sets fields of a hash, and may set their expiry.",
		Syntax: "key [condition:(FNX|FXX)] [expiration:(EX seconds:int|PX milliseconds:int|EXAT unix-time-seconds:time|PXAT unix-time-milliseconds:time|KEEPTTL)] " +
			"FIELDS fields:{numfields:int data:{field value}...}",
		Handler: cmdHSetEx,
	},
}

// hexpireSpec takes the argument that tells the time, in the notation of Syntax.
func hexpireSpec(name string, handler func(*Ctx), when, summary string) Spec {
	return Spec{
		Name: name, Arity: -6, FirstKey: 1, LastKey: 1, Step: 1,
		Flags: FlagWrite | FlagDenyoom | FlagFast, ACL: CatWrite | CatHash | CatFast,
		KeySpecs: []KeySpec{{Flags: []string{"RW", "update"}, BeginIndex: 1, LastKey: 0, Step: 1}},
		Group:    "hash", Since: "7.4.0", Complexity: "O(n), n fields",
		Summary: summary,
		Syntax:  "key " + when + " [condition:(NX|XX|GT|LT)] FIELDS fields:{numfields:int field...}",
		Handler: handler,
	}
}

func httlSpec(name string, handler func(*Ctx), summary string) Spec {
	return Spec{
		Name: name, Arity: -5, FirstKey: 1, LastKey: 1, Step: 1,
		Flags: FlagReadonly | FlagFast, ACL: CatRead | CatHash | CatFast,
		KeySpecs: []KeySpec{{Flags: []string{"RO", "access"}, BeginIndex: 1, LastKey: 0, Step: 1}},
		Group:    "hash", Since: "7.4.0", Complexity: "O(n), n fields",
		Summary: summary,
		Syntax:  "key FIELDS fields:{numfields:int field...}",
		Handler: handler,
	}
}
