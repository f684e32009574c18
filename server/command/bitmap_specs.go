package command

// bitmapSpecs are the commands of this family: arity, flags, keys, categories and tips are those that COMMAND INFO of
// Redis 7.0 prints.
var bitmapSpecs = []Spec{
	{
		Name: "setbit", Arity: 4, FirstKey: 1, LastKey: 1, Step: 1,
		Flags: FlagWrite | FlagDenyoom, ACL: CatWrite | CatBitmap | CatSlow,
		KeySpecs: []KeySpec{{Flags: []string{"RW", "access", "update"}, BeginIndex: 1, LastKey: 0, Step: 1}},
		Group:    "bitmap", Since: "2.2.0", Complexity: "O(1)",
		Summary: "Sets a bit of a string.",
		Handler: cmdSetBit,
	},
	{
		Name: "getbit", Arity: 3, FirstKey: 1, LastKey: 1, Step: 1,
		Flags: FlagReadonly | FlagFast, ACL: CatRead | CatBitmap | CatFast,
		KeySpecs: []KeySpec{{Flags: []string{"RO", "access"}, BeginIndex: 1, LastKey: 0, Step: 1}},
		Group:    "bitmap", Since: "2.2.0", Complexity: "O(1)",
		Summary: "Returns a bit of a string.",
		Handler: cmdGetBit,
	},
	{
		Name: "bitcount", Arity: -2, FirstKey: 1, LastKey: 1, Step: 1,
		Flags: FlagReadonly, ACL: CatRead | CatBitmap | CatSlow,
		KeySpecs: []KeySpec{{Flags: []string{"RO", "access"}, BeginIndex: 1, LastKey: 0, Step: 1}},
		Group:    "bitmap", Since: "2.6.0", Complexity: "O(N)",
		Summary: "Counts set bits.",
		Handler: cmdBitCount,
	},
	{
		Name: "bitpos", Arity: -3, FirstKey: 1, LastKey: 1, Step: 1,
		Flags: FlagReadonly, ACL: CatRead | CatBitmap | CatSlow,
		KeySpecs: []KeySpec{{Flags: []string{"RO", "access"}, BeginIndex: 1, LastKey: 0, Step: 1}},
		Group:    "bitmap", Since: "2.8.7", Complexity: "O(N)",
		Summary: "Finds the first bit that is set or clear.",
		Handler: cmdBitPos,
	},
	{
		Name: "bitop", Arity: -4, FirstKey: 2, LastKey: -1, Step: 1,
		Flags: FlagWrite | FlagDenyoom, ACL: CatWrite | CatBitmap | CatSlow,
		KeySpecs: []KeySpec{{Flags: []string{"OW", "update"}, BeginIndex: 2, LastKey: 0, Step: 1}, {Flags: []string{"RO", "access"}, BeginIndex: 3, LastKey: -1, Step: 1}},
		Group:    "bitmap", Since: "2.6.0", Complexity: "O(N)",
		Summary: "Combines strings bit by bit.",
		Handler: cmdBitOp,
	},
	{
		Name: "bitfield", Arity: -2, FirstKey: 1, LastKey: 1, Step: 1,
		Flags: FlagWrite | FlagDenyoom, ACL: CatWrite | CatBitmap | CatSlow,
		KeySpecs: []KeySpec{{Notes: "This command allows both access and modification of the key", Flags: []string{"RW", "access", "update", "variable_flags"}, BeginIndex: 1, LastKey: 0, Step: 1}},
		Group:    "bitmap", Since: "3.2.0", Complexity: "O(1)",
		Summary: "Reads and changes integers of any width in a string.",
		Handler: cmdBitField,
	},
	{
		Name: "bitfield_ro", Arity: -2, FirstKey: 1, LastKey: 1, Step: 1,
		Flags: FlagReadonly | FlagFast, ACL: CatRead | CatBitmap | CatFast,
		KeySpecs: []KeySpec{{Flags: []string{"RO", "access"}, BeginIndex: 1, LastKey: 0, Step: 1}},
		Group:    "bitmap", Since: "6.0.0", Complexity: "O(1)",
		Summary: "Reads integers of any width in a string.",
		Handler: cmdBitFieldRO,
	},
}
