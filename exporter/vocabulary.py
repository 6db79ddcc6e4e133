"""The words that log messages are made of, for `masking`: what is not among them may be somebody's name."""

_KNOWN = """
    a abbreviated able abort aborted about above absent absolute abstract accept acceptable accepted accepting
    access accessed accesses accessible accessid accessing according account accounts accurate accurately ack acked
    acknowledged acquire acquired across act action activate activated activating activation active actively actual
    actually add added adding addition additional addr address addresses adjacent adjust adjusted admin
    administrator advance advancing advantage affect affected affects after afterwards again against age agent ago
    ahead alert alerts algorithm algorithms alias aliases aliasing align alignment alive all alloc allocate
    allocated allocating allocation allocations allow allowed allowing almost alone along alpha alphabet already
    also alter alternate alternative although always ambiguity ambiguous among amount an analysis analyzer anchor
    and angle animation annotation annotations anonymous another answer answered any anymore anything anyway
    anywhere apart api app appear appears append appended appending applicable application applied applies apply
    applying approach appropriate appropriately approximate approximation apps april arbitrarily arbitrary
    architecture archive are argument arguments arithmetic around array arrays arrive arrived article as ask asked
    assert assign assigned assigning assignment assignments associated assume assumed assumes assuming assumption
    async asynchronous asynchronously at attached attempt attempted attempting attempts attribute attributes audio
    audit august auth authenticate authenticated authentication authorisation authorization authorized auto
    automatic automatically available average avoid avoiding avoids await awaited awaiting awakened aware away back
    backend backends background backslash backslashes backward backwards bad balance bar bare barrier base based
    basic basis be bearer became because become becomes been before began begin beginning begins behave behaves
    behavior
    behaviour behind being believe belong belongs below benefit best beta better between beyond big binary binascii
    bind binding bit bits bitwise blank blanks block blocked blocking blocks blue body bogus bool boolean boot
    bootstrap both bother bottom bound boundaries boundary bounded box boxes brackets branch break breaking
    breakpoint breakpoints breaks broken browser buffer buffered buffering bug bugs build building built builtin
    builtins bunch busy but by bypass byte bytecode bytes cache cached caching calculated calculation calendar call
    callable callback callbacks called caller calling came can cancel canceled cancellation cancelled cancelling
    candidate cannot canonical canvas capabilities capability capacity capture captured care carefully carry case
    cast catalog catch catching category caught cause caused causes causing cell center central certain certificate
    certificates chain challenge chance change changed changes changing channel channels char character characters
    chars charset check checked checker checkers checking child children choice choices choose chosen chunk chunked
    circle circular claim clamp class classes classic clause clean cleaned cleanup clear cleared clicked client
    clients clock close closed closest closing closure cloud cluster code codec codecs codes coding coefficient
    collect collected collection collections collector colon color column columns combination combinations combined
    come comes comma command commas comment comments committed committing common commonly communicate communicating
    compact compare compared compares comparing comparison comparisons compatibility compatible compile compiled
    compiler compiles complete completed completely completing completion complex compliant complicated component
    compound compress compressed compression compressor computation compute computed computing concatenated
    concatenation concrete concurrent condition conditional conditions config configuration configured confirm
    confirmation confirmed confirming conflict conform confusion connect connected connecting connection connections
    connector consecutive consider considered consist consistency consistent consisting consists console constant
    constants constraint constraints constructed construction constructor constructs consume consumed consuming
    consumption contact contacted contain contained container containing contains content context contiguous
    continuation continue continued contract contributed control controlled controlling convenience convenient
    convention conversion conversions convert converted converting converts cookie cookies coordinate coordinates
    copied copies copy copying core corner coroutine coroutines correct correctly correspond corresponding
    corresponds corrid cost could count counted counter counting course covariant cover covers cpu crash create
    created creating creation credential critical cross cumulative current currently curve custom customization
    customize customized cut cycle cycles cyclic daemon daily dangling data database datagram date dates datetime
    day daylight days dead deadline deadlock deal debug debugged debugger debugging december decide decimal
    declaration declarations declare declared decode decoded decoder decoding decompressed decompression
    decompressor decorated decorator decorators dedicated deep default defaulting deferred define defined defines
    defining definitely definition definitions definitively deflate degraded degrees delay delayed delete deleted
    deleting deletion delimited delimiter delimiters delta demo denial denied denominator deny depend dependencies
    dependency dependent depending depends deprecated deprecation derive derived describe described describing
    description descriptions descriptor descriptors design designed desirable desired dest destination destroyed
    detail detailed details detect detected detection determine determined determining deviation device diagnostics
    dial dict dictionaries dictionary dicts did differ difference differences different differently digest digit
    digits direct direction directives directly directories directory disable disabled discard discarded disconnect
    disconnected discovered disk dispatch dispatcher display displayed displaying displays disposition distance
    distinct distinguish distribute distributed distribution distributions divide division dns do doc docs document
    documentation documented does doing domain done dot dots dotted double down download downloaded drain drained
    draining draw drawing drawings drawn drive drop dropped dropping dual due dummy dump duplicate duration during
    dynamic dynamically each earlier earliest early easier easily easy echo edge effect effective effects efficiency
    efficient efficiently effort eggs either element eliminating else elsewhere email embedded emit emitted empty
    emulate emulation enable enabled enc enclosed encode encoded encoder encoding encodings encountered encrypted
    encryption end ended endian ending endings endpoint enforce enforced engine enhanced enough ensure enter entered
    entire entirely entitled entitlement entitlements entity entries entry enumeration enums env environment eof
    epoch equal equality equivalent err error errors escape escaped escapes especially essentially establish
    established estimate etc evaluate evaluated evaluates even event events eventually ever every everyone
    everything evicted exact exactly examined example examples exceed exceeded exceeds except exception excess
    exclude excluding exclusive exclusively executable execute executed executes executing execution executor
    exhausted exist existing exists exit exited exiting expanded expansion expect expected expects expensive
    expiration expire expired expires expiring expiry explain explained explanation explicit explicitly exponent
    export exported exporter expose exposed expressed expression extend extended extends extension extensions
    external externally extra extracted extraction extreme fact factors factory fail failed failing fails failure
    failures fairly fake fall fallback falling falls false family far fashion fast faster fatal fatally feature
    february feed fell fetch fetched fetching few field fields figure file filename filenames files filesystem fill
    filled filling filter filtered final finally find finder fine fingerprint finish finished finite firewall first
    fit fits five fix fixed fixes fixture flag float floating floats flow flush flushed focus fold folder follow
    followed following font for forbidden force forced forever fork form formal format formatted formatter
    formatting former forms forward forwarded found four fractional fractions frame frames framework free freed
    freeze frequency fresh friday friends from frozen ftp full fullname fully fun function functional functionality
    further future gap garbage gateway gather gauge gauges general generally generate generated generating
    generation generator generators generic get getaddrinfow getting give given gives giving global go goes going
    good goroutine got grab grace grammar grant granted graph graphics greater greeting group grouping groups grows
    grpc guarantee guaranteed guarantees guard guess guessed guest gzip hack had half hand handle handled handler
    handling handshake happen happened happening happens hard hardcoded hardware has hash hashable hashing have
    having head header headers heading health healthy heap heartbeat heartbeats heavily height held hello help
    helpers helpful hence here hereby heuristic hex hexadecimal hidden hide hides hierarchy high higher highest hint
    hints history hit hold holder holding holds home hook horizontal host hostname hosts hour hourly hours how href
    http https hub human iana id identical identified identifier identify identifying identity idle if ignore
    ignored ignoring illegal image imaginary immediate immediately immutable implement implementation implemented
    implementing implements implicit implicitly implied implies imply import important imported importing importlib
    improve in inactive inactivity include included includes including inclusion incoming incompatible incomplete
    incorrect incorrectly increase increases incremental incremented indent indentation indented indents independent
    index indexed indexes indexing indicate indicated indicates indicating indication indicator indices indirect
    indirectly individual inexact inferred infinite infinities infinity info information informational informative
    inherit inheritance inherited inheriting inherits init initial initialised initialization initialize initialized
    initializing initially inline inner input insert inserted inserting insertion inside inspect inspired install
    installation installed instance instances instantiate instantiated instantiating instantiation instead
    instruction insufficient int integer integrity intended interaction interactive interactively intercept
    intercepted interception interested interesting interface interfaces intermediate internal internally internet
    interpolation interpret interpretation interpreted interpreter interrupted interval into intrinsic introduced
    introduces introspection invalid invalidated invariant inverse invisible invocation invoke invoked invoking
    involving ip is issue issued issuer it item items iterable iterate iterated iterating iteration iterator
    iterators its itself january jar job jobs join joined json judge judged july jump jumps june just jwt keep keepalive
    keeping
    kept kerberos kernel key keyed keys keyword keywords killed kind know knowledge known knows label labels lack lacks
    language large larger largest last late latency later latest latter layer lazy lead leader leading leaf leak
    leap lease leased least leave leaves leaving lef left leftmost leftover legacy legal lend length less let lets
    letter letters level lib libraries library lic license licensed licenses licensing life lifetime like likely
    limit limitations limited limits line linear link linked list listed listen listener listening listing literal
    literally literals little live liveness load loaded loader loading local locale localhost locally locate located
    location lock locked locking lockout log logged logger logging logic logical login logins logon logout logs long
    longer longest look looked looking looks lookup loop loopback loops lose loss lost lot lots low lower lowercase
    lowest machine machinery made magic magnitude mail mailbox main mainly maintain maintained maintenance major
    make making malformed manage managed management manager managing manipulation manual manually many map mapped
    mapping mappings march marked marker markers marking marks markup mask master match matched matches matching
    math matrix matter matters max maximal maximum may maybe mean meaning meaningful meanings means meant measure
    measurement mechanism median meet meets member members memo memory mentioned merge merged message messages meta
    metadata method metric metrics micro microseconds mid middle middleware might migrate migrated migration min
    minimal minimize minimum minor minus minute minutes misconfigured mismatch missed misses missing mix mixed mode
    model modification modifications modified modifier modify modifying module modulo modulus moment monday monitor
    monitoring month more most mostly mount mouse move moved movement moving msg much multicast multiline multipart
    multiple multiplication multiplied must mutable mutate mutated nack naive name named names namespace namespaces
    naming native natural near nearest nearly necessarily necessary need needed needs negative negotiate neither
    nested nesting netmask network never new newer newest newline newly next nice no nobody node nodes noise non
    nonce none nonempty nonnegative nonzero nor normal normalization normalized normally not notation nothing notice
    notification notified notify notion november now ntlm null number numbers numerator numeric numerical numerically
    object objects obsolete obtain obtained obtaining occur occurred occurrence occurrences occurs octal octets
    october odag odd of off official offline offset offsets often ok old older oldest omit omitted on once one
    online only opcode opcodes open opened opening operand operands operate operates operating operation operational
    operationtype operator operators opt optimization optimize optimized option optional optionally or order ordered
    ordering ordinal ordinary orientation origin original originally orphaned other otherwise our out outdated outer
    outline output outside over overage overall overdue overflow overhead overlapped overload overloaded overridden
    override overrides overriding overview overwrite overwriting overwritten own owned owner pack package packed pad
    padded padding page pager pair panic paragraph parallel parameter parameterized parameters parent parentheses
    parse parsed parser parsers parsing part partial partially particular particularly pass passed passes passing
    password past patch path pathname pattern patterns pause paused payload peer pen pending people per percent
    perform performance performed perhaps period periodic periodically permanent permission permissions permissive
    permitted persisted persistent pertaining pick pickle pickled pickles pickletools pickling piece pieces ping
    pipe pipeline pipes place placed placeholder places plain platform platforms play please plus point pointer
    pointing policy poll polled polling polygon pool popped pops popular population port portion position positional
    positionals positions positive possibilities possibility possible possibly post postponed potential potentially
    power precede preceded precedence preceding precision precomputed predecessors predicate prefer preferred prefix
    prefixed prefixes preflight prepare preparing presence present presented preserve preserved preserving pretty
    prevent prevents previous previously primarily primary prime primitive print printed printing prior priority
    private probability probably probe probed problem problems proceed proceeds process processed processes
    processing processor produce produced produces producing product professional profile profiler profiling program
    programming programs progress prompt propagate propagated proper properly properties property protected
    protection proto protocol provide provided provider providing proxies proxy proxyconnect pruned pseudo public
    publish published pull pulled pump pure purely purge purged purpose purposes push pushed pushes put qix qlik qps
    qrs quadratic qualified quarantine quarantined query queue queued quickly quiet quit quite quota quote quoted
    quotes race raise raised raising random range rare rate rather ratio ratios raw re reach reachable reached
    reaches reaching read readable reader reading readline ready real really reason reasonable reassign reassigned
    rebalanced rebuild rebuilt recalculated receive received receiving recent recently recipient reclaimed
    recognised recognize recognized recommended recompute recomputed reconciled reconciliation reconnect reconnected
    record records recover recovered recovery recreated recurse recursion recursive recursively redefine redirect
    redirected redis reduce reduced reduces redundant reentrant refer reference referenced references referring
    refers reflect refresh refreshed refreshes refreshing refuse refused refusing regardless regenerate regex
    register registered registering registration registry regular rehash reinitialized reissue reissued reject
    rejected related relationship relative relatively relay relayed release released relevant relies reload reloaded
    rely remain remainder remaining remains remind remote remotely remove removed removing rename renamed
    renegotiated renew renewal renewed renewing reopen reopened reorder repair repeat repeated repeatedly repeating
    replace replaced replacement replaces replacing replica reply report reported reporting repository represent
    representable representation representative represented representing represents request requested requests
    require required requirement requires requiring reraise reschedule resend resent reserve reserved reset
    resolution resolve resolved resolver resolving resource resources respect respective respectively response
    responses responsibility responsible rest restart restarted restarting restore restored restriction restrictions
    result resultcode resulting results resulttext resume resumed resync resynced resyncing retain retained retire
    retired retried retries retrieved retry retrying return returned returning reusable reuse reused reverse
    reversed revert revoked rewrite right rightmost rights risk role roles roll rollback rolled root rotated
    rotation roughly round rounded rounding route router routine row rows rule rules run runner running runtime safe
    safely safety said sales salt same sample sampling sane satisfy saturday save saved saving say says scalar scan
    scanning schedule scheduled scheduler scheduling scheme schemes scientific scope scrape screen script scripts
    seal sealed search searched searches seat seats second seconds secret section secure security see seed seeded
    seek seekable seeking seem seems seen segment select selected selections selector self semantics semaphore
    semicolon send sendfile sending sense sensible sensitive sent sentence sentinel separate separated separately
    separating separator separators september sequence sequential serial serialized series serve served server
    servers service services serving session sessioncount sessionid sessions set setting settings settle settled
    setup several shadowed shallow shape shapes shard share shared sheet shell shift short shorthand should showing
    shown shows shrink shut shutdown shutting side sign signal signaling signature signed significant signify silent
    silently similar similarity similarly simple simpler simplest simplify simply simultaneous simultaneously since
    single singleton site situation situations six size skip skipped skipping slash slashes sld sleep slice slicing
    slightly slk slot slots slow slower slowly small smaller smallest snapshot so socket solution some someone
    something sometimes somewhere soon sophisticated sort sorted sorting sorts sound source space spaces span spawn
    spawned speak speaks spec special specialized specific specification specified specifier specifies specify
    specifying speed
    speeds spell spelling spent split splitting spurious square ssl stable stack stacklevel stage stages stale stall
    stalled stamp standard star start started starting startup stat state statement statements static statistics
    stats status statuscode stay stderr stdin stdout step still stop stopped stopping storage store stored storing
    straight stream streaming strict strictly string strip stripped stripping strong struct structural structure
    stuck stuff style sub subclass subclassed subclasses subclassing subdirectories subdirectory subject submit
    submitted submodule submodules subnormal subprocess subscribe subscripted subscription subsequent subset
    substituted substitutions substring subtle subtract subtraction subtype succeed succeeded succeeds success
    successful successfully such sufficient suffix suffixes suitable suite sum summary sunday super supersede
    superseded supplied supply support supported supporting supposed suppress suppressed sure surrounded suspended
    swap sweep swept switch switched switches symbol symbolic symbols symlink symlinks sync synced synch
    synchronisation synchronise synchronised synchronising synchronization synchronize synchronized synchronizing
    synchronous syncing synonym syntax system systems tab table tabs tag tail take taken takes taking talk tar
    target task tasks tcp tear tell temp template temporarily temporary tenant terminal terminate terminated
    terminating termination terminator terms test tested testing testmod text than that the their them themselves
    then there therefore thereof these they thing think third this those though thousands thread threading three
    threshold throttled through throw thrown thursday thus tick ticked time timed timeout timer times timestamp
    timezone timing title tls to today together toggle token tokenize tokens told too took tool tools top topics
    total touch touched towards trace traceback tracebacks tracing track tracker tracking traffic trailing
    transaction transfer transform transformed transient translate translated translation transmit transmitted
    transparent transport trapped traps treat treated tree trick tried tries trigger triggered triple triples true
    truncate truncated trust trusted truth try trying tuesday tune tunnel turn turns twice two type typed typically
    typing uid unable unambiguously unary unassign unassigned unauthorized unavailable unblocked unbound unchanged
    uncommitted uncompressed undefined under underflow underlying underscore understand understands undo
    undocumented unexpected unexpectedly unhashable unhealthy uniform uniformly unions unique unit universal unknown
    unless unlimited unload unlock unlocked unmarshal unnecessary unpack unpacking unreachable unread unreadable
    unrecognized unregistered unrelated unset unsigned unspecified unsubscribe unsuccessful unsupported until
    untrusted unusable unused up update updated updates updating upgrade upgraded upload uploaded upon upper
    uppercase uptime url usable usage usagedenied usagegranted use used useful user username users uses using usual
    usually utc utilities utility valid validate validated validating validation value values variable variables
    variance variant variants varies various vars vector verbose verdict verification verified verify verifying
    version versions very via vice view views violated virtual visible visit wait waited waiter waiters waiting wake
    walk want wanted wants warm warmup warn warning warnings was waste watch watcher way ways we weak weakref web
    webbrowser webhook websocket wednesday week weekday well were what whatever when whence whenever where whether
    which while whitespace who whole whose why width wildcard will window wink winner wins wipe wire with within
    without won word words work worked worker workers working world worry worst worth would wrap wrapped wrapper
    wrapping wraps writable write writer writing written wrong x xml year years yes yet yield yielded yielding you
    your zero zeroes zone
"""
_BEFORE_NAMES = """
    user users owner account login member person principal subject host hostname machine node server computer domain
    directory tenant customer company organisation organization site named called name for by from to as of on at
    via with lookup app stream group admin administrator employee colleague mr mrs ms dr hello dear password
    passphrase pwd secret token key credential
"""

KNOWN = frozenset(_KNOWN.split())
"""Never a name, wherever they stand."""
BEFORE_NAMES = frozenset(_BEFORE_NAMES.split())
"""Words behind which names stand."""
_NAMES_TOO = "april august chance grace grant june max may page star tab trace will"
NAMES_TOO = frozenset(_NAMES_TOO.split())
"""Known words that people are called, too: where names stand they are taken for names."""
