package reply

// The texts that clients see, in the exact words of Redis 7.0.15: clients compare them, and so do our tests. Constants
// that end in F are formats for fmt.Sprintf. All start with their code, none has the '-' of the wire.

// Any command.
const (
	WrongType       = "WRONGTYPE Operation against a key holding the wrong kind of value"
	Syntax          = "ERR syntax error"
	NotInt          = "ERR value is not an integer or out of range"
	NotFloat        = "ERR value is not a valid float"
	NoSuchKey       = "ERR no such key"
	OutOfRange      = "ERR index out of range"
	ValueOutOfRange = "ERR value is out of range"
	MustBePositive  = "ERR value is out of range, must be positive"
	ValueBetweenF   = "ERR value is out of range, value must between %d and %d"
	SameObject      = "ERR source and destination objects are the same"
	InvalidCursor   = "ERR invalid cursor"
	InvalidExpireF  = "ERR invalid expire time in '%s' command"
	WrongArityF     = "ERR wrong number of arguments for '%s' command"
	// SubcommandSyntaxF takes the subcommand as the client wrote it and the command's name in upper case.
	SubcommandSyntaxF = "ERR unknown subcommand or wrong number of arguments for '%.128s'. Try %s HELP."
	// UnknownSubcommandOrArityF takes the subcommand as the client wrote it and the command's name in upper case.
	UnknownSubcommandOrArityF = "ERR unknown subcommand or wrong number of arguments for '%.128s'. Try %s HELP."
	// UnknownSubcommandF takes the subcommand as the client wrote it and the command's name in upper case.
	UnknownSubcommandF = "ERR unknown subcommand '%.128s'. Try %s HELP."
	// UnknownCommandF takes the command as the client wrote it and its arguments, each in quotes and followed by a space.
	UnknownCommandF = "ERR unknown command '%.128s', with args beginning with: %s"
)

// Generic commands.
const (
	DBIndexOutOfRange   = "ERR DB index is out of range"
	IntOutOfRange       = "ERR value is out of range, value must between -2147483648 and 2147483647"
	InvalidFirstDB      = "ERR invalid first DB index"
	InvalidSecondDB     = "ERR invalid second DB index"
	BusyKey             = "BUSYKEY Target key name already exists."
	BadDumpFormat       = "ERR Bad data format"
	BadDumpPayload      = "ERR DUMP payload version or checksum are wrong"
	InvalidTTL          = "ERR Invalid TTL value, must be >= 0"
	InvalidIdleTime     = "ERR Invalid IDLETIME value, must be >= 0"
	InvalidFreq         = "ERR Invalid FREQ value, must be >= 0 and <= 255"
	ExpireNXWithOther   = "ERR NX and XX, GT or LT options at the same time are not compatible"
	ExpireGTWithLT      = "ERR GT and LT options at the same time are not compatible"
	UnsupportedOptionF  = "ERR Unsupported option %s"
	LFUNotSelected      = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust."
	LFUSelected         = "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust."
	SortScoreNotDouble  = "ERR One or more scores can't be converted into double"
	TimeoutNotFloat     = "ERR timeout is not a float or out of range"
	TimeoutNotInt       = "ERR timeout is not an integer or out of range"
	TimeoutNegative     = "ERR timeout is negative"
	TimeoutOutOfRange   = "ERR timeout is out of range"
	WaitOnReplica       = "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is configured to be writable (which is not the default) writes to replicas are just local and are not propagated."
	UnblockedByClient   = "UNBLOCKED client unblocked via CLIENT UNBLOCK"
	UnblockedRoleChange = "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
)

// Strings and bitmaps.
const (
	StringTooLong     = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
	OffsetOutOfRange  = "ERR offset is out of range"
	IncrOverflow      = "ERR increment or decrement would overflow"
	DecrOverflow      = "ERR decrement would overflow"
	IncrNaN           = "ERR increment would produce NaN or Infinity"
	LCSNotStrings     = "ERR The specified keys must contain string values"
	LCSLenAndIdx      = "ERR If you want both the length and indexes, please just use IDX."
	LCSTooLong        = "ERR String too long for LCS"
	LCSNoMemory       = "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"
	BitOffset         = "ERR bit offset is not an integer or out of range"
	BitNotBit         = "ERR bit is not an integer or out of range"
	BitPosBit         = "ERR The bit argument must be 1 or 0."
	BitOpNot          = "ERR BITOP NOT must be called with a single source key."
	BitFieldType      = "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."
	BitFieldOverflow  = "ERR Invalid OVERFLOW type specified"
	BitFieldROOnlyGet = "ERR BITFIELD_RO only supports the GET subcommand"
	HLLNotValid       = "WRONGTYPE Key is not a valid HyperLogLog string value."
	HLLCorrupted      = "INVALIDOBJ Corrupted HLL object detected"
	MSetWrongArity    = "ERR wrong number of arguments for 'mset' command"
	MSetNXWrongArity  = "ERR wrong number of arguments for 'msetnx' command"
)

// Hashes.
const (
	HashNotInt    = "ERR hash value is not an integer"
	HashNotFloat  = "ERR hash value is not a float"
	ValueNaNOrInf = "ERR value is NaN or Infinity"

	// In the words of Redis 7.4 and 8.0.
	FieldExpireNegative  = "ERR invalid expire time, must be >= 0"
	FieldsMissing        = "ERR Mandatory argument FIELDS is missing or not at the right position"
	NumFieldsPositive    = "ERR Parameter `numFields` should be greater than 0"
	NumFieldsNotPositive = "ERR Number of fields must be a positive integer"
	NumFieldsMismatch    = "ERR The `numfields` parameter must match the number of arguments"
	InvalidNumFields     = "ERR invalid number of fields"
	FieldExpireMissing   = "ERR missing expire time"
	FieldExpireOnce      = "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified"
	FieldConditionOnce   = "ERR Only one of FXX or FNX arguments can be specified"
	UnknownArgumentF     = "ERR unknown argument: %s"
)

// Lists.
const (
	ListRankZero       = "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list"
	ListCountNegative  = "ERR COUNT can't be negative"
	ListMaxLenNegative = "ERR MAXLEN can't be negative"
	NumKeysPositive    = "ERR numkeys should be greater than 0"
	CountPositive      = "ERR count should be greater than 0"
	ListRankOutOfRange = "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"
)

// Sets.
const (
	LimitNegative   = "ERR LIMIT can't be negative"
	NumKeysTooLarge = "ERR Number of keys can't be greater than number of args"
)

// Sorted sets.
const (
	ZAddXXAndNX          = "ERR XX and NX options at the same time are not compatible"
	ZAddGTLTNX           = "ERR GT, LT, and/or NX options at the same time are not compatible"
	ZAddIncrPairs        = "ERR INCR option supports a single increment-element pair"
	ZScoreNaN            = "ERR resulting score is not a number (NaN)"
	ZMinMaxNotFloat      = "ERR min or max is not a float"
	ZMinMaxNotLex        = "ERR min or max not valid string range item"
	ZWeightNotFloat      = "ERR weight value is not a float"
	ZNoInputKeyF         = "ERR at least 1 input key is needed for '%s' command"
	ZLimitNeedsRange     = "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
	ZWithScoresWithByLex = "ERR syntax error, WITHSCORES not supported in combination with BYLEX"
)

// Geo.
const (
	GeoNeedNumeric        = "ERR need numeric %s"
	GeoUnsupportedUnit    = "ERR unsupported unit provided. please use M, KM, FT, MI"
	GeoInvalidPairF       = "ERR invalid longitude,latitude pair %f,%f"
	GeoNoMember           = "ERR could not decode requested zset member"
	GeoRadiusNegative     = "ERR radius cannot be negative"
	GeoCountPositive      = "ERR COUNT must be > 0"
	GeoAnyNeedsCount      = "ERR the ANY argument requires COUNT argument"
	GeoStoreIncompatibleF = "ERR STORE option in %s is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
)

// Connection commands.
const (
	NoAuth                  = "NOAUTH Authentication required."
	WrongPass               = "WRONGPASS invalid username-password pair or user is disabled."
	AuthNoPassword          = "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"
	NoProto                 = "NOPROTO unsupported protocol version"
	ProtoNotInt             = "ERR Protocol version is not an integer or out of range"
	HelloNoAuth             = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time"
	HelloSyntaxF            = "ERR Syntax error in HELLO option '%s'"
	ClientName              = "ERR Client names cannot contain spaces, newlines or special characters."
	ClientNoSuch            = "ERR No such client"
	ClientInvalidID         = "ERR Invalid client ID"
	ClientIDPositive        = "ERR client-id should be greater than 0"
	ClientNoSuchUserF       = "ERR No such user '%s'"
	ClientUnblockReason     = "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"
	ClientPauseMode         = "ERR CLIENT PAUSE mode must be WRITE or ALL"
	MaxClientsReached       = "ERR max number of clients reached"
	NoPermCommandF          = "NOPERM this user has no permissions to run the '%s' command"
	NoPermKey               = "NOPERM this user has no permissions to access one of the keys used as arguments"
	NoPermChannel           = "NOPERM this user has no permissions to access one of the channels used as arguments"
	SubscribedOnlyF         = "ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
	SelectInClusterMode     = "ERR SELECT is not allowed in cluster mode"
	ReplicaKeyspace         = "ERR Replica can't interact with the keyspace"
	MonitorDenyBlocking     = "ERR MONITOR isn't allowed for DENY BLOCKING client"
	SubscribeDenyBlocking   = "ERR SUBSCRIBE isn't allowed for a DENY BLOCKING client"
	SSubscribeDenyBlocking  = "ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"
	CommandNotAllowedLocalF = "ERR %s command not allowed. If the %s option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server."
)

// Transactions.
const (
	MultiNested      = "ERR MULTI calls can not be nested"
	ExecWithoutMulti = "ERR EXEC without MULTI"
	DiscardNoMulti   = "ERR DISCARD without MULTI"
	WatchInMulti     = "ERR WATCH inside MULTI is not allowed"
	ExecAbort        = "EXECABORT Transaction discarded because of previous errors."
	ExecAbortF       = "EXECABORT Transaction discarded because of: %s"
	NotInsideMulti   = "ERR Command not allowed inside a transaction"
)

// Server commands and the server's state.
const (
	Loading          = "LOADING Redis is loading the dataset in memory"
	MasterDown       = "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
	ReadOnly         = "READONLY You can't write against a read only replica."
	OOM              = "OOM command not allowed when used memory > 'maxmemory'."
	NoReplicas       = "NOREPLICAS Not enough good replicas to write."
	MisconfSnapshot  = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may modify the data set are disabled, because this instance is configured to report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB error."
	MisconfAOFF      = "MISCONF Errors writing to the AOF file: %s"
	NoScript         = "NOSCRIPT No matching script. Please use EVAL."
	BusyScript       = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
	NotBusy          = "NOTBUSY No scripts in execution right now."
	BgsaveInProgress = "ERR Background save already in progress"
	BgsaveChild      = "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to schedule a BGSAVE whenever possible."
	ShutdownErrors   = "ERR Errors trying to SHUTDOWN. Check logs."
	ShutdownNoAbort  = "ERR No shutdown in progress."

	ConfigSetUnknownF    = "ERR Unknown option or number of arguments for CONFIG SET - '%s'"
	ConfigSetDuplicateF  = "ERR CONFIG SET failed (possibly related to argument '%s') - duplicate parameter"
	ConfigSetFailedF     = "ERR CONFIG SET failed (possibly related to argument '%s') - %s"
	ConfigImmutable      = "can't set immutable config"
	ConfigProtected      = "can't set protected config"
	ConfigRewriteNoFile  = "ERR The server is running without a config file"
	ConfigRewriteFailedF = "ERR Rewriting config file: %s"

	CommandInvalid        = "ERR Invalid command specified"
	CommandInvalidNumArgs = "ERR Invalid number of arguments specified for command"
	CommandInvalidArgs    = "ERR Invalid arguments specified for command"
	CommandNoKeys         = "ERR The command has no key arguments"
	CommandNotFound       = "ERR Unknown command"

	NotYesNo = "argument must be 'yes' or 'no'"
)

// Framing errors. After any of them the connection is closed.
const (
	ProtoMultibulkLen     = "ERR Protocol error: invalid multibulk length"
	ProtoBulkLen          = "ERR Protocol error: invalid bulk length"
	ProtoUnauthMultibulk  = "ERR Protocol error: unauthenticated multibulk length"
	ProtoUnauthBulk       = "ERR Protocol error: unauthenticated bulk length"
	ProtoMultibulkTooBig  = "ERR Protocol error: too big mbulk count string"
	ProtoBulkTooBig       = "ERR Protocol error: too big bulk count string"
	ProtoInlineTooBig     = "ERR Protocol error: too big inline request"
	ProtoUnbalancedQuotes = "ERR Protocol error: unbalanced quotes in request"
	// ProtoExpectedDollar is followed by the character that came, and a closing quote.
	ProtoExpectedDollar = "ERR Protocol error: expected '$', got '"
)
