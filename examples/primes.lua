-- primes.lua: counts the primes up to LIMIT on all processors.
--
--   nl-jit examples/primes.lua [LIMIT [WORKERS]]        (default: 20 million, a worker for each processor)
--
-- The first context cuts the range into pieces. One worker context for each processor (this file with the argument "worker")
-- takes piece after piece, so a fast worker does more of them. Progress goes to standard error, the result to standard
-- output. Try it with 1 worker, and with one for each processor.

local PIECE = 500000

local role = ...

-- The primes up to the square root of n. The sieve needs them.
local function small_primes(n)
    local primes, composite = {}, {}
    for i = 2, math.floor(math.sqrt(n)) do
        if not composite[i] then
            primes[#primes + 1] = i
            for j = i * i, math.floor(math.sqrt(n)), i do
                composite[j] = true
            end
        end
    end
    return primes
end

-- The number of primes from first to last.
local function count(first, last)
    local composite, n = {}, last - first + 1
    for i = 1, n do
        composite[i] = false
    end
    for _, p in ipairs(small_primes(last)) do
        for j = math.max(p * p, math.ceil(first / p) * p), last, p do
            composite[j - first + 1] = true
        end
    end
    local primes = 0
    for i = 1, n do
        if not composite[i] then
            primes = primes + 1
        end
    end
    return primes
end

if role == "worker" then
    context.recv(0, function(_, piece, sender, session)
        context.reply(sender, session, count(piece.first, piece.last))
    end)
    return
end

local limit, nworkers = ...
limit, nworkers = tonumber(limit or 20e6), tonumber(nworkers or context.ncpu)
if not (limit and nworkers) or limit < 2 or limit > 1e12 or limit % 1 ~= 0 or nworkers < 1 then
    io.stderr:write("primes: usage: nl-jit primes.lua [LIMIT [WORKERS]]\n")
    os.exit(2)
end

local next_first, total, done, busy = 2, 0, 0, nworkers
local start = timer.now()

local function progress()
    io.stderr:write(("\rprimes: %3d %%"):format(done / (limit - 1) * 100))
end

-- Gives pieces to one worker until none is left. Each worker has a coroutine that runs this.
local function feed(worker)
    while next_first <= limit do
        local piece = { first = next_first, last = math.min(next_first + PIECE - 1, limit) }
        next_first = piece.last + 1
        local ok, found = context.query(worker, piece)
        if not ok then
            error("a worker is lost: " .. context.strerror(found))
        end
        total, done = total + found, done + piece.last - piece.first + 1
        progress()
    end
    context.destroy(worker)
    busy = busy - 1
    if busy == 0 then
        io.stderr:write("\n")
        print(("%d primes up to %d, found by %d workers in %.2f s"):format(
            total, limit, nworkers, timer.now() - start))
    end
end

progress()
for _ = 1, nworkers do
    local worker, err = context.create("primes.lua", "worker")
    if not worker then
        error("cannot create a worker: " .. context.strerror(err), 0)
    end
    context.run(feed, worker)
end
