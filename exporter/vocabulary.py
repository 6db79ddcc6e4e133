"""The words that log messages are made of, for `masking`: what is not among them may be somebody's name."""

_KNOWN = """
    a about above absent accept accepted access accesses accessid according account accounts ack acked acknowledged
    acquire acquired across action activate activated activating activation active actively add added adding
    additional address addresses admin administrator after again against age agent ago ahead alive all alloc
    allocate allocated allocating allocation allocations allow allowed already also always an analyzer and anonymous
    another answer answered any anymore anything api app application applied apply applying apps april archive are
    arrived as ask asked assign assigned assigning assignment assignments at attempt attempted attempting attempts
    audit august auth authenticate authenticated authentication authorisation authorization authorized automatically
    available average away back backend backends background bad balance base based basic be became because been
    before began begin begins behind being below between bind blocked body boot both bound broken browser buffer
    build built busy but by bytes cache cached caching call called caller can cancel canceled cancelled cannot
    capacity case catalog caused central certificate certificates chain change changed changes check checked
    checking child chunk claim clean cleaned cleanup clear cleared client clients clock close closed closing cloud
    cluster code codes collect command committed committing communicate communicating complete completed completing
    component compute computed concurrent config configuration configured confirm confirmation confirmed confirming
    conflict connect connected connecting connection connections connector consistent consume consumed consuming
    consumption contact contacted container content context continue control correctly corrid could count counted
    counter counting cpu create created creating credential critical current currently custom cut daily data
    database date dates day days deadline debug debugging december decode default deferred definitely definition
    definitions definitively degraded delay delayed delete deleted deleting delta denied deny dependency deprecated
    desired destination detail details detected determine determined determining diagnostics dial did differ
    different directory disable disabled discarded disconnect disconnected discovered dispatcher dns do does doing
    domain done down download downloaded drain drained drop dropped dropping due dump duplicate duration during each
    early either element email emit emitted empty enable enabled encountered end ended endpoint engine enough ensure
    enter entered entitled entitlement entitlements entity entries entry env environment eof equal error errors
    establish established evaluated event events every everyone everything evicted exceeded except exception excess
    exclude executed executing execution exhausted exist existing exists exit exited exiting expected expire expired
    expires expiring expiry export exported expression external externally extra fail failed failing fails failure
    failures fallback false fatal fatally feature february fell fetch fetched fetching few field fields file files
    filter final finally find finish finished firewall first flag flush flushed folder follow following for
    forbidden force forced format forward forwarded found free freed freeze frequency fresh friday from frozen full
    function gateway general generate generated get getaddrinfow getting given go good goroutine got grace grant
    granted group groups grpc guest had half handle handled handler handling handshake happen happened happening
    happens has hash have header headers health healthy heartbeat heartbeats held hello help here hit holder hook
    host hostname hosts hour hourly hours how http https hub id identical identifier idle if ignore ignored ignoring
    image immediately import imported improve in inactive inactivity incoming incomplete incorrect incorrectly index
    info information init initial initialised initialization initialize initialized initializing input insert inside
    install installed instance instances instead insufficient integer integrity intended intercept intercepted
    interception internal internally interrupted interval into invalid invalidated invoke invoked ip is issue issued
    issuer it item items iterate its january job jobs join joined json july june just jwt keep keepalive keeping
    kept key keys kind known large last late latency later latest layer leader lease leased lef left lend length
    less level lib lic license licensed licenses licensing lifetime like limit limits line link list listed listen
    listener listening liveness load loaded loading local locally locate located lock locked lockout log logged
    logger logging login logins logon logout logs long longer lookup lost low made mail main maintenance make making
    malformed manage managed management manager manual manually many map mapped march master match matched max
    maximum may maybe memory merge merged message messages metadata method metric metrics micro middleware migrate
    migrated migration min minimum minute minutes misconfigured mismatch missed missing mode model modified module
    monday monitor monitoring month more most mount move moved much multiple must nack name named names nearly
    needed network never new newer next no node nodes none nor normal not nothing notice notification notified
    notify november now null number numbers object objects obsolete obtain obtained obtaining occurred october odag
    of off offline ok old older on once one online only open opened opening operation operational operationtype
    option optional or order origin original orphaned other out outdated output over overage overdue overview own
    owned owner pack package page pair panic parallel parameter parameters parent parse parsed parsing part partial
    partially pass passed password patch path pause paused payload peer pending per perform performed period
    periodic periodically permanent permission permissions persisted ping please point policy poll polled polling
    pool port possible post postponed preflight preparing present previous previously primary print prior probably
    probe probed process processed processing product professional profile progress propagate propagated proper
    properly properties property protocol provide provided provider proxy proxyconnect pruned public publish
    published pull pulled purge purged push pushed put qix qlik qps qrs quarantine quarantined query queue queued
    quickly quit quota raise range rate rather re reach reachable reached reaching read reading ready real reason
    reassign reassigned rebalanced rebuild rebuilt recalculated receive received recently reclaimed recompute
    recomputed reconciled reconciliation reconnect reconnected record records recover recovered recovery recreated
    redirect redis reduced refresh refreshed refreshes refreshing refuse refused refusing regenerate register
    registered registration rehash reinitialized reissue reissued reject rejected relay relayed release released
    reload reloaded remain remaining remains remind remote remotely remove removed removing rename renamed
    renegotiated renew renewal renewed renewing reopen reopened reorder repair repeat repeated repeating replaced
    replica reply report reported reporting repository request requested requests require required requires resend
    resent reserve reserved reset resolve resolved resource resources response responses rest restart restarted
    restarting restore restored result resultcode results resulttext resume resumed resync resynced resyncing retain
    retained retire retired retried retries retry retrying return returned reuse reused revert revoked rewrite role
    roles roll rollback rolled root rotated round route router routine row rows rule rules run running runtime said
    sales same sample saturday save saved saving say says scan schedule scheduled scheduler scope seal sealed seat
    seats second seconds section secure security see seed seeded seen select selected self semaphore send sending
    sense sent september sequence serial serve served server servers service services serving session sessioncount
    sessionid sessions set setting settings settle settled setup several shard shared sheet short should shrink shut
    shutdown shutting sign signal signature signed since single site size skip skipped skipping sld sleep slk slow
    slowly small snapshot so socket some something soon source span spawn spawned specified split ssl stack stale
    stall stalled start started starting startup state stats status statuscode stay step still stop stopped stopping
    storage store stored stream strict string structure stuck sub submit submitted subscribe subscription success
    successful successfully such sum sunday supersede superseded supplied supply support supported sure suspended
    swap sweep swept switch switched sync synced synchronisation synchronise synchronised synchronising
    synchronization synchronize synchronized synchronizing syncing syntax system systems table tag talk target task
    tasks tcp tear tell temp template temporarily temporary tenant terminate terminated termination test text than
    that the their them then there these they thing this those though thread threshold throttled through throw
    thrown thursday tick ticked time timed timeout timer times timestamp tls to today together toggle token tokens
    told too took total touched trace track traffic transaction transfer transient transmit transmitted transport
    triggered true truncate truncated trust trusted try trying tuesday tune tunnel type uid unable unassign
    unassigned unauthorized unavailable unblocked unchanged uncommitted undefined under unexpected unexpectedly
    unhealthy unit unknown unlimited unload unlock unlocked unmarshal unnecessary unreachable unreadable
    unrecognized unregistered unsubscribe unsuccessful unsupported until untrusted unused up update updated updates
    updating upgrade upgraded upload uploaded upon uptime url usage usagedenied usagegranted use used user users
    uses using utc valid validate validated validating validation value values verbose verification verified verify
    verifying version versions very via violated virtual wait waited waiting wake warm warmup warn warning warnings
    was we webhook wednesday week well were what when where whether which while who whole will wipe with within
    without work worked worker workers working world wrapped write writing written wrong x xml yes yet yield you
    your zero zone
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
