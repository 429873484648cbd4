%% server:main([Port, echo | bcast, Head]): the echo and broadcast server in Erlang, a process for each connection.
%%
%% The messages of one packet are taken apart here and answered together; with gen_tcp's own {packet, N} each would be a
%% system call of its own, several times slower under load.
-module(server).
-export([main/1]).

-define(ACCEPTORS, 4).
-define(ACTIVE, 100).

main([Port, Mode, Head]) ->
    {ok, Listener} = gen_tcp:listen(list_to_integer(Port),
        [binary, {ip, {127, 0, 0, 1}}, {active, false}, {nodelay, true}, {reuseaddr, true}, {backlog, 4096},
         {buffer, 65536}]),
    ets:new(sockets, [named_table, public, set, {read_concurrency, true}]),
    Serve = {list_to_atom(Mode), 8 * list_to_integer(Head)},
    [spawn_link(fun() -> accept(Listener, Serve) end) || _ <- lists:seq(1, ?ACCEPTORS)],
    timer:sleep(infinity).

accept(Listener, {Mode, Bits} = Serve) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Pid = spawn(fun() ->
        receive yours -> ok end,
        Mode =:= bcast andalso ets:insert(sockets, {Socket}),
        inet:setopts(Socket, [{active, ?ACTIVE}]),
        loop(Socket, Mode, Bits, <<>>)
    end),
    gen_tcp:controlling_process(Socket, Pid),
    Pid ! yours,
    accept(Listener, Serve).

loop(Socket, Mode, Bits, Rest) ->
    receive
        {tcp, Socket, Data} ->
            {Frames, Left} = frames(Bits, join(Rest, Data), []),
            deliver(Mode, Socket, Frames),
            loop(Socket, Mode, Bits, Left);
        {tcp_passive, Socket} ->
            inet:setopts(Socket, [{active, ?ACTIVE}]),
            loop(Socket, Mode, Bits, Rest);
        _Closed ->
            Mode =:= bcast andalso ets:delete(sockets, Socket)
    end.

join(<<>>, Data) -> Data;
join(Rest, Data) -> <<Rest/binary, Data/binary>>.

%% Each whole message with a head in front, as an iolist; and the beginning of the next one.
frames(0, Data, []) ->
    {Data, <<>>};
frames(Bits, Data, Frames) ->
    case Data of
        <<Size:Bits, Message:Size/binary, Left/binary>> ->
            frames(Bits, Left, [Frames, <<Size:Bits>>, Message]);
        _ ->
            {Frames, Data}
    end.

deliver(_, _, []) -> ok;
deliver(echo, Socket, Frames) -> gen_tcp:send(Socket, Frames);
deliver(bcast, _, Frames) -> ets:foldl(fun({Socket}, _) -> gen_tcp:send(Socket, Frames) end, ok, sockets).
