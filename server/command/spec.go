// Package command is the command table and its handlers, a file for each family. Handlers are pure: no clock, no disk,
// no network. They read and change a keyspace.Keyspace through a Ctx, write their reply into Ctx.W, and say what goes
// to the log: the command as it was sent (Ctx.Changed) or deterministic effects that replace it (Ctx.Effect).
package command

// Flags are the properties of a command that COMMAND prints and that dispatch, MULTI, ACL and scripts obey.
type Flags uint64

// The flags, by Redis's names.
const (
	FlagWrite Flags = 1 << iota
	FlagReadonly
	FlagDenyoom
	FlagAdmin
	FlagPubsub
	FlagNoscript
	FlagBlocking
	FlagLoading
	FlagStale
	FlagSkipMonitor
	FlagSkipSlowlog
	FlagFast
	FlagNoAuth
	FlagMayReplicate
	FlagMovableKeys
	FlagAllowBusy
	FlagNoMulti
	FlagSortForScript
	FlagAsking
	FlagNoAsyncLoading
	FlagNoMandatoryKeys
	FlagOnlySentinel
	FlagModule
	flagCount = iota
)

var flagNames = [flagCount]string{"write", "readonly", "denyoom", "admin", "pubsub", "noscript", "blocking", "loading",
	"stale", "skip_monitor", "skip_slowlog", "fast", "no_auth", "may_replicate", "movablekeys", "allow_busy", "no_multi",
	"sort_for_script", "asking", "no_async_loading", "no_mandatory_keys", "only_sentinel", "module"}

// Names returns the flags as COMMAND prints them. It does not print that a command may replicate.
func (f Flags) Names() []string {
	var out []string
	for i, n := range flagNames {
		if f&^FlagMayReplicate&(1<<i) != 0 {
			out = append(out, n)
		}
	}
	return out
}

// Categories are ACL categories, as a bit set.
type Categories uint32

// The ACL categories.
const (
	CatKeyspace Categories = 1 << iota
	CatRead
	CatWrite
	CatSet
	CatSortedSet
	CatList
	CatHash
	CatString
	CatBitmap
	CatHyperloglog
	CatGeo
	CatStream
	CatPubsub
	CatAdmin
	CatFast
	CatSlow
	CatBlocking
	CatDangerous
	CatConnection
	CatTransaction
	CatScripting
	catCount = iota
)

var catNames = [catCount]string{"keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap",
	"hyperloglog", "geo", "stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous", "connection",
	"transaction", "scripting"}

// Names returns the categories without the '@'.
func (c Categories) Names() []string {
	var out []string
	for i, n := range catNames {
		if c&(1<<i) != 0 {
			out = append(out, n)
		}
	}
	return out
}

// KeySpec says where keys stand among the arguments, as COMMAND INFO reports it since Redis 7.0.
type KeySpec struct {
	Notes string
	Flags []string // "RW", "access", "update", "incomplete" …

	// Begin search: by index, or by keyword. Neither: unknown.
	BeginIndex       int    // > 0: index of the first key
	BeginKeyword     string // else: the keyword before the first key …
	BeginKeywordFrom int    // … searched from here (negative: from the end)
	BeginUnknown     bool

	// Find keys: a range, or a count found in an argument. Neither: unknown.
	FindUnknown bool
	KeyNum      bool // true: KeyNumIdx, FirstKey, Step; false: LastKey, Step, Limit
	KeyNumIdx   int
	FirstKey    int
	LastKey     int
	Step        int
	Limit       int
}

// KeysFunc returns the indexes of the keys in args, for commands whose keys do not stand at fixed places. It returns
// nil when args are malformed; the handler then replies with the error.
type KeysFunc func(args [][]byte) []int

// Spec is one row of the command table.
type Spec struct {
	Name       string // lower case
	Arity      int    // as Redis: negative = at least
	Flags      Flags
	FirstKey   int
	LastKey    int
	Step       int
	Elem       int      // index of the first argument that names an element of the key's collection, if no options come first; 0 = none
	Keys       KeysFunc // for movable keys
	KeySpecs   []KeySpec
	ACL        Categories
	Group      string
	Since      string
	Complexity string
	Summary    string
	Tips       []string
	Syntax     string   // the arguments, in the notation of syntax.go
	History    []string // what came later: a version, a space, what it brought
	Deprecated string   // a version, a space, what to use instead; "" = not deprecated
	SysCmd     bool     // for the system's use, not for clients

	// Blind tells whether the command, as it is called, replaces all its keys whatever they held, and replies nothing of that; it
	// answers so only of one that cannot fail, or fails without a change. nil: it never does.
	Blind func(args [][]byte) bool

	// Counts: the command asks how many keys there are.
	Counts bool

	// Handler executes the command. nil: the session layer has a handler of this name.
	Handler func(*Ctx)
	// Timeout writes the reply of a blocking command whose time is up; nil = a null array.
	Timeout     func(*Ctx)
	Subcommands []Spec

	// FullName is "container|sub" for a subcommand, else Name. Set by NewTable.
	FullName string
	// SyntaxArgs is Syntax, parsed. Set by NewTable.
	SyntaxArgs []Arg
	// ID numbers the rows of a table densely, subcommands included. Set by NewTable.
	ID int
}

// Write tells whether the command may change the data.
func (s *Spec) Write() bool { return s.Flags&FlagWrite != 0 }

// ArityOK checks the number of arguments.
func (s *Spec) ArityOK(argc int) bool {
	if s.Arity >= 0 {
		return argc == s.Arity
	}
	return argc >= -s.Arity
}

// EachKey calls fn with the index of each key in args.
func (s *Spec) EachKey(args [][]byte, fn func(i int)) {
	if s.Keys != nil {
		for _, i := range s.Keys(args) {
			fn(i)
		}
		return
	}
	if s.FirstKey <= 0 {
		return
	}
	last := s.LastKey
	if last < 0 {
		last = len(args) + last
	}
	for i := s.FirstKey; i <= last && i < len(args); i += s.Step {
		fn(i)
	}
}

// AppendKeys appends the keys that args name, where the table says at which places they are, to keys, and the first element of
// each key's collection, or nil, to elems, which is as long. It ends when there are most keys.
func (s *Spec) AppendKeys(keys, elems, args [][]byte, most int) (_, _ [][]byte) {
	if s.Keys != nil || s.FirstKey <= 0 {
		return keys, elems
	}
	last := s.LastKey
	if last < 0 {
		last += len(args)
	}
	for i := s.FirstKey; i <= last && i < len(args) && len(keys) < most; i += s.Step {
		keys = append(keys, args[i])
		if s.Elem > 0 && s.Elem < len(args) {
			elems = append(elems, args[s.Elem])
		} else {
			elems = append(elems, nil)
		}
	}
	return keys, elems
}
