%% actors:main([Bench, Amount | Contexts]): processes and messages; calls are made as gen_server:call makes them.
-module(actors).
-export([main/1]).

%% Calls between two looks at the clock; fewer where many callers end at the same time.
-define(BATCH, 200).
-define(BATCH_PAIRS, 20).

main([Bench, Amount | More]) ->
    Contexts = [list_to_integer(X) || X <- More],
    Number = case string:to_float(Amount) of {error, _} -> list_to_integer(Amount); {F, _} -> F end,
    run(list_to_atom(Bench), Number, Contexts),
    halt(0).

result(Name, X) -> io:format("~s ~.6f~n", [Name, float(X)]).
rates(Count, Start) -> result(rate, Count / (now_s() - Start)), result(count, Count).
now_s() -> erlang:monotonic_time(nanosecond) / 1.0e9.

resident_kb() ->
    {ok, B} = file:read_file("/proc/self/statm"),
    [_, Pages | _] = binary:split(B, <<" ">>, [global]),
    binary_to_integer(Pages) * 4.

echo() ->
    receive {Ref, From, Value} -> From ! {Ref, Value}, echo() end.

call(Pid, Value) ->
    Ref = erlang:monitor(process, Pid, [{alias, reply_demonitor}]),
    Pid ! {Ref, Ref, Value},
    receive
        {Ref, Reply} -> Reply;
        {'DOWN', Ref, _, _, Reason} -> exit(Reason)
    end.

%% Calls until then; how many there were.
calls(Pid, Value, Stop, Batch) -> calls(Pid, Value, Stop, Batch, 0).
calls(Pid, Value, Stop, Batch, Count) ->
    case now_s() < Stop of
        true -> batch(Pid, Value, Batch), calls(Pid, Value, Stop, Batch, Count + Batch);
        false -> Count
    end.

batch(_, _, 0) -> ok;
batch(Pid, Value, N) -> Value = call(Pid, Value), batch(Pid, Value, N - 1).

timed_calls(Value, Seconds) ->
    Pid = spawn(fun echo/0),
    Start = now_s(),
    rates(calls(Pid, Value, Start + Seconds, ?BATCH), Start).

run(pingpong, Seconds, _) -> timed_calls(1, Seconds);
run(table, Seconds, _) -> timed_calls(#{id => 1, name => <<"abc">>, pos => [1, 2, 3]}, Seconds);
run(pairs, Seconds, Contexts) ->
    N = first(Contexts, 100),
    Me = self(),
    Start = now_s(),
    Stop = Start + Seconds,
    [spawn_link(fun() -> Me ! {calls, calls(spawn_link(fun echo/0), 1, Stop, ?BATCH_PAIRS)} end) || _ <- lists:seq(1, N)],
    rates(lists:sum([receive {calls, C} -> C end || _ <- lists:seq(1, N)]), Start);
run(flood, Seconds, _) ->
    Each = 250000,
    Me = self(),
    Consumer = spawn_link(fun() -> consume(Me, 2 * Each) end),
    Start = now_s(),
    rates(flood(Consumer, Each, Start + Seconds, 0), Start);
run(ring, Seconds, Contexts) ->
    Me = self(),
    First = spawn_link(fun() -> receive {next, Pid} -> link_of(Pid, Me) end end),
    Last = lists:foldl(fun(_, Next) -> spawn_link(fun() -> link_of(Next, Me) end) end, First,
                       lists:seq(2, first(Contexts, 1000))),
    First ! {next, Last},
    Start = now_s(),
    rates(hops(First, 200000, Start + Seconds, 0), Start);
run(spawn, N, _) ->
    Before = resident_kb(),
    Start = now_s(),
    Pids = [spawn(fun echo/0) || _ <- lists:seq(1, N)],
    [1 = call(Pid, 1) || Pid <- Pids],
    rates(N, Start),
    timer:sleep(500),
    result(kb_each, (resident_kb() - Before) / N);
run(timers, N, _) ->
    {Cpu, _} = statistics(runtime),
    Start = now_s(),
    arm(1, N),
    rates(N, Start),
    Late = lists:sort(late(N, [])),
    {CpuEnd, _} = statistics(runtime),
    result(cpu_us, (CpuEnd - Cpu) * 1000 / N),
    result(late_p50_ms, lists:nth(max(1, N div 2), Late)),
    result(late_p99_ms, lists:nth(max(1, N * 99 div 100), Late)),
    result(late_max_ms, lists:last(Late)).

first([X | _], _) -> X;
first([], Usual) -> Usual.

flood(Consumer, Each, Stop, Count) ->
    [spawn_link(fun() -> produce(Consumer, Each) end) || _ <- [1, 2]],
    receive counted -> ok end,
    case now_s() < Stop of
        true -> flood(Consumer, Each, Stop, Count + 2 * Each);
        false -> Count + 2 * Each
    end.

produce(_, 0) -> ok;
produce(To, N) -> To ! N, produce(To, N - 1).

consume(Parent, N) -> drain(N), Parent ! counted, consume(Parent, N).

drain(0) -> ok;
drain(N) -> receive I when is_integer(I) -> drain(N - 1) end.

link_of(Next, Parent) ->
    receive
        0 -> Parent ! done;
        N -> Next ! N - 1
    end,
    link_of(Next, Parent).

hops(First, Hops, Stop, Count) ->
    First ! Hops,
    receive done -> ok end,
    case now_s() < Stop of
        true -> hops(First, Hops, Stop, Count + Hops);
        false -> Count + Hops
    end.

arm(I, N) when I > N -> ok;
arm(I, N) ->
    Ms = 1000 + I * 7919 rem 1000 + 1,
    Due = now_s() + Ms / 1000,
    erlang:send_after(Ms, self(), {due, Due}),
    arm(I + 1, N).

late(0, Late) -> Late;
late(N, Late) -> receive {due, Due} -> late(N - 1, [(now_s() - Due) * 1000 | Late]) end.
