---@meta timer

---Sleeping, and callbacks at a time.
---
---Times are seconds of a monotonic clock, with fractions. A timer never fires early. On an idle machine it fires at most
---1 ms late. Timers that are due at the same time fire in the order in which they were armed.
---
---A callback runs in a coroutine of its own and may block; meanwhile other timers fire. An armed timer keeps its context alive.
---@class timerlib
timer = {}

---Names a timer of the calling context: a number. No other timer of this context ever gets the same number.
---@alias timer.id integer

---Suspends the running coroutine. `timer.sleep(0)` lets all other coroutines run that are ready.
---
---Example:
---```lua
---local start = timer.now()
---print(timer.sleep(0.02)) --> true
---print(timer.now() - start >= 0.02) --> true
---```
---@async
---@param seconds nl.seconds
---@return true
function timer.sleep(seconds) end

---Calls a function once, after some seconds. The arguments for the function come before it.
---
---Example:
---```lua
---timer.timeout(0.02, "two", print)
---timer.timeout(0.01, "one", 1, function(name, number)
---  print(name, number)
---end)
---print "armed"
---```
---```text
---armed
---one 1
---two
---```
---Form: `timer.timeout(seconds, ..., callback)`
---@param seconds nl.seconds
---@param ... any Arguments for the callback, any number of any values, and last the callback, a function. Once.
---@return timer.id id
---@overload fun(seconds: nl.seconds, callback: fun()): timer.id
function timer.timeout(seconds, ...) end

---Calls a function again and again: first after `interval`, then every `repeat_time`.
---
---The calls do not drift: a late call does not delay the next one. A loop that falls behind skips the calls that it has
---missed. After an error in the callback, which the log shows, the loop goes on.
---
---Example:
---```lua
---local n = 0
---local id
---id = timer.loop(0.02, 0.01, "tick", function(word)
---  n = n + 1
---  print(word, n)
---  if n == 3 then timer.close(id) end
---end)
---```
---```text
---tick 1
---tick 2
---tick 3
---```
---Form: `timer.loop(interval, repeat_time, ..., callback)`
---@param interval nl.seconds Until the first call.
---@param repeat_time nl.seconds Between two calls.
---@param ... any Arguments for the callback, any number of any values, and last the callback, a function. Continuous, until `timer.close`.
---@return timer.id id
---@overload fun(interval: nl.seconds, repeat_time: nl.seconds, callback: fun()): timer.id
function timer.loop(interval, repeat_time, ...) end

---Disarms a timer.
---
---Example:
---```lua
---local id = timer.timeout(60, function() print "never" end)
---print(timer.close(id)) --> true
---print(timer.close(id)) --> false
---```
---@param id timer.id What `timer.timeout` or `timer.loop` returned.
---@return boolean armed True if it was armed; it does not fire any more. A timer of `timer.timeout` is no longer armed when its callback runs.
function timer.close(id) end

---The time of the monotonic clock. All contexts read the same clock. It is not the time of day; `os.time` tells that.
---
---Example:
---```lua
---local before = timer.now()
---timer.sleep(0.01)
---local took = timer.now() - before
---print(took >= 0.01 and took < 10) --> true
---```
---@return nl.seconds now
---@nodiscard
function timer.now() end

return timer
