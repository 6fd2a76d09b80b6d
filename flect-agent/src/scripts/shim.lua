-- Put in front of every script, joined to one line, so that the script's lines keep their numbers.
-- Lines that begin with two dashes are left out; no other line holds a comment.
--
-- STORE stands for the store's prefix, DATABASES for the number of databases, COMMANDS for the commands
-- whose arguments or replies hold names (';get:1;mget:1.-1.1 ...', see scripts/data.rs), KNOWN for those
-- that the script spells out. GIVEN and ENTER are what differs in a library, see scripts/library.lua. The
-- agent's last argument is the prefix of the session's database, and after a NUL the names that the agent has
-- walked for (see scoped/gather.rs). WIDE stands for wide.lua in the scripts that may need it.
--
-- What keeps stores apart is the store's own ACL user; this only makes names short.
local redis,server,loadstring,load=(function()
local raw,G,keys,argv,error,type,select,string,make=redis,_G,GIVEN,error,type,select,string,loadstring
local names,known,send,slow=COMMANDS,{KNOWN},raw.pcall
local Q,P,sent,touched,walked,place,found,asks,dry=STORE,nil,{},{}
-- What scripts can change of the interpreter that all stores share: how JSON is read and written, and when
-- memory is taken back. Each run begins with what a server begins with (lua_cjson.c, luaconf.h).
local json,collect=G.cjson,G.collectgarbage
local function calm()
json.encode_sparse_array(false,2,10)
json.encode_max_depth(1000)
json.decode_max_depth(1000)
json.encode_number_precision(14)
json.encode_keep_buffer(true)
json.encode_invalid_numbers(false)
json.decode_invalid_numbers(true)
if json.decode_array_with_array_mt then json.decode_array_with_array_mt(false) end
collect('setpause',200)
collect('setstepmul',200)
end
-- Whether there is a key of this name, without telling of a miss (`keymiss`), nor, in a transaction, tracking it
-- for the client, which has not asked for it. RENAME to itself changes nothing, but makes a script that cannot
-- be ended of one that has only read; in a transaction it is that already.
local function there(name)
if walked and string.sub(walked,1,1)=='@' then
local r=send('rename',name,name)
if r.ok then return true end
if string.find(r.err,'no such key',1,true) then return false end
end
return type(send('object','encoding',name))=='string'
end
-- What a run begins with: the prefix, the names, and whether it asks for all names before it changes anything.
local function enter(last,careful)
calm()
local at=string.find(last,'\0',1,true)
P,walked,place,asks=at and string.sub(last,1,at-1) or last,at and string.sub(last,at+1),nil,at and careful
if not at then return P end
sent,touched,found={},{},nil
-- In a transaction others may want to know what this script makes.
if string.sub(walked,1,1)=='@' then
asks=nil
for _,mode in ipairs({'.1',''}) do
if there(string.sub(walked,2)..mode) then place=string.sub(walked,2)..mode end
end
end
return P
end
enter(argv[#argv])
argv[#argv]=nil
for i=1,#keys do keys[i]=string.sub(keys[i],#P+1) end
local function note(name)
if touched[name] then return end
touched[name]=true
if place then
local rest=string.sub(name,#Q+1)
send('append',place,'1:+1:1'..#rest..':'..rest)
end
end

-- Servers before 8.1 let a script change what later ones see, whoever runs them: by setfenv(0, ...), by
-- the environment of functions that all share, by getmetatable('').__index. None of it gets through.
if getmetatable(G) and rawget(G,'setfenv') then
local get,set,plain,m,E,X=getfenv,setfenv,make,getmetatable(''),{},{}
local N=get(1)
if m then m.__metatable=false end
X._G=E
X.getfenv=function(f)
if type(f)~='function' then f=tonumber(f) or 1 if f>0 then f=f+1 end end
local e=get(f)
if e==G or e==N then e=E end
return e
end
X.setfenv=function(f,e)
local at=f
if type(f)~='function' then at=tonumber(f) or 0 if at>0 then at=at+1 end end
if at==0 or get(at)==G then error("'setfenv' cannot change environment of given object",2) end
set(at,e)
if at==f then return f end
end
make=function(s,name)
local f,e=plain(s,name or s)
if f then set(f,E) end
return f,e
end
X.setmetatable=function(...)
if ...==E then return setmetatable(G,(select(2,...))) end
return setmetatable(...)
end
X.loadstring,X.load=make,false
-- What it makes may have a finalizer, which runs in whatever script comes when memory is taken back, with that
-- script's user, or outside of any, which ends the server.
X.newproxy=false
setmetatable(X,{__index=G})
setmetatable(E,{__index=X,__newindex=G,__metatable=getmetatable(G)})
ENTER
end

-- What a command's arguments are: 1 where only the first is a name, false where none is.
local function look(c)
local s=false
if type(c)=='string' then
local _,at=string.find(names,';'..string.lower(c)..':',1,true)
s=at and string.match(names,'^[^;]*',at+1) or false
if s=='1' then s=1 end
known[c]=s
end
return s
end

local function run(...)
local c,k=...
if asks then
local _,_,ask=slow()
ask(c)
end
local s=known[c]
if s==nil then s=look(c) end
if s==1 and type(k)=='string' then
if walked then sent[c]=true note(P..k) end
return send(c,P..k,select(3,...))
end
if not s then
if walked and c~=nil then sent[c]=true end
return send(...)
end
return slow()(...)
end

local function clean(e)
local t=e.err
if type(t)=='string' then
local n=string.find(t,Q,1,true)
while n do
local to=n+#Q-1
local _,more=string.find(t,'^/%d+:',to+1)
if not more then _,more=string.find(t,'^:',to+1) end
t=string.sub(t,1,n-1)..string.sub(t,(more or to)+1)
n=string.find(t,Q,n,true)
end
e.err=string.gsub(t,'User %S+ has no permissions','User default has no permissions')
end
return e
end

-- The server notes the line of whoever raises an error: so a function on the caller's line does.
local function raise(e)
local line
for level=4,6 do
local _,at=pcall(error,'',level)
line=line or tonumber(string.match(at,'^user_script:(%d+)'))
end
local f=line and make(string.rep('\n',line-1)..'local f,e=... f(e)','@user_script')
if f then f(error,e) end
error(e)
end

local function call(...)
local r=run(...)
if type(r)=='table' and r.err then raise(clean(r)) end
return r
end

local function try(...)
local r=run(...)
if type(r)=='table' and r.err then clean(r) end
return r
end

-- What needs a closer look; made when it is first needed.
slow=function()
local lower,upper,find,match,sub=string.lower,string.upper,string.find,string.match,string.sub
local function text(v)
if type(v)~='number' then return v end
if v==math.floor(v) and v>-2^53 and v<2^53 then return string.format('%.0f',v) end
for digits=15,17 do
local t=string.format('%.'..digits..'g',v)
if tonumber(t)==v then return t end
end
return ''..v
end
local function word(v) return lower(match(text(v) or '','^%Z*')) end
local function whole(v)
v=text(v)
local sign,digits=match(v or '','^(-?)([1-9]%d*)$')
if not digits then return v=='0' and 0 or nil end
local most=sign=='' and '9223372036854775807' or '9223372036854775808'
if #digits>19 or #digits==19 and digits>most then return nil end
return tonumber(v)
end
local function refuse(t) return {err=t,ignore_error_stats_update=true} end
local function name(a,bar) return a[1]..(known[a[1]]=='container' and bar..a[2] or '') end
local function keys(a,from,to,step)
for i=from,to,step or 1 do
a[i+1]=P..text(a[i+1])
if walked then note(a[i+1]) end
end
end
local function channels(a,from,to)
for i=from,to do a[i+1]=Q..':'..text(a[i+1]) end
end
local function strip(v,by) return type(v)=='string' and sub(v,1,#by)==by and sub(v,#by+1) or v end
local function database(v)
local n=whole(v)
if not n then return nil,refuse('ERR value is not an integer or out of range') end
if n>=2^31 or n< -2^31 then return nil,refuse('ERR value is out of range, value must between -2147483648 and 2147483647') end
if n<0 or n>=DATABASES then return nil,refuse('ERR DB index is out of range') end
return n==0 and Q..':' or Q..'/'..text(n)..':'
end

-- Options from `at` on, as the server walks them: words alone, words before one name, one value or two.
-- Where a word makes no sense everything after it counts as a name: the server refuses it.
local function options(a,argc,at,alone,named,one,two)
while at<argc do
local w=' '..word(a[at+1])..' '
local more=argc-at-1
if find(alone,w,1,true) then at=at+1
elseif find(one,w,1,true) and more>=1 then at=at+2
elseif find(two,w,1,true) and more>=2 then at=at+3
elseif find(named,w,1,true) and more>=1 then
keys(a,at+1,at+1)
at=at+2
else return at,w end
end
return at
end

local special={}
special.channel=function(a) channels(a,1,1) end
special.numsub=function(a,argc) channels(a,2,argc-1) end
-- The store's user may not run it (admin/users.rs); these two do the same.
special.georadius=function(a,argc,at)
local i,to,dist,with,rest=at+1,nil,false,false,{}
while i<=argc do
local w=word(a[i])
if (w=='store' or w=='storedist') and i<argc then
to,dist,i=a[i+1],w=='storedist',i+2
else
with=with or w=='withdist' or w=='withhash' or w=='withcoord'
rest[#rest+1],i=a[i],i+1
if w=='count' and i<=argc then rest[#rest+1],i=a[i],i+1 end
end
end
if not to then
keys(a,1,1)
a[1]=a[1]..'_ro'
return
end
if with then return refuse('ERR '..upper('store')..' option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options') end
local member=at==5
local b={'geosearchstore',P..text(to),P..text(a[2]),member and 'frommember' or 'fromlonlat',a[3]}
if not member then b[#b+1]=a[4] end
b[#b+1]='byradius'
b[#b+1]=a[at-1]
b[#b+1]=a[at]
for n=1,#rest do b[#b+1]=rest[n] end
if dist then b[#b+1]='storedist' end
if walked then note(b[2]) end
for n=1,math.max(#b,argc) do a[n]=b[n] end
return nil,#b
end
special.sort=function(a,argc)
for at=2,argc-1 do
local w=word(a[at+1])
if w=='get' or w=='by' and find(text(a[at+2]) or '','*',1,true) then
local done=(special.sorted or special.store)(a,argc)
if done~=nil then return done end
break
end
end
keys(a,1,1)
keys(a,options(a,argc,2,' asc desc alpha ',' store ',' by ',' limit '),argc-1)
end
special.xread=function(a,argc,at)
local stop,w=options(a,argc,1,at==1 and ' noack ' or '','',' block count ',at==1 and ' group ' or '')
local rest=argc-stop-1
if w~=' streams ' then keys(a,stop,argc-1)
else keys(a,stop+1,rest%2==0 and stop+rest/2 or argc-1) end
end
special.copy=function(a,argc)
local to,at,failed=P,3
while at<argc do
local w=word(a[at+1])
if w=='db' and at+1<argc then
to,failed=database(a[at+2])
if failed then return failed end
table.remove(a,at+1)
table.remove(a,at+1)
argc=argc-2
elseif w=='replace' then at=at+1
else at=argc end
end
a[2],a[3]=P..text(a[2]),to..text(a[3])
if walked then note(a[3]) end
return nil,argc
end
special.move=function(a)
local to,failed=database(a[3])
if failed then return failed end
if to==P then return refuse('ERR source and destination objects are the same') end
if walked then sent.renamenx=true note(to..text(a[2])) end
local r=send('renamenx',P..text(a[2]),to..text(a[2]))
if type(r)=='table' and r.err=='ERR no such key' then r=0 end
return r
end
special.select=function(a)
local to,failed=database(a[2])
if failed then return failed end
P=to
return {ok='OK'}
end
special.store=function(a)
return refuse("ERR '"..lower(name(a,'|')).."' is carried out by the agent in several steps and cannot be part of a script in a store")
end
WIDE
special.operator=function(a)
return refuse('NOPERM '..upper(name(a,' '))..' is not available in a store: it concerns all stores of the server; ask the operator of this Valkey')
end
special.ok=function() return {ok='OK'} end
special.standalone=function() return refuse('ERR This instance has cluster support disabled') end

-- Key specs: first.last.step, or #at.first.step where the number of keys stands at `at`.
local function specs(a,argc,s)
for number,x,y,z in string.gmatch(s,'(#?)(%d+)%.(-?%d+)%.(%d+)') do
x,y,z=x+0,y+0,z+0
if number=='#' then
local n=whole(a[x+1])
if n and n>=0 and y+n*z<=argc then keys(a,y,y+n*z-1,z) else keys(a,y,argc-1) end
else
keys(a,x,y<0 and argc+y or x+y,z)
end
end
end

local reply={}
reply.first=function(r) if r[1] then r[1]=strip(r[1],P) end return r end
reply.streams=function(r)
if r.map then
local m={}
for k,v in pairs(r.map) do m[strip(k,P)]=v end
r.map=m
end
for i=1,#r do reply.first(r[i]) end
return r
end
reply.numsub=function(r)
for i=1,#r,2 do r[i]=strip(r[i],Q..':') end
return r
end

local function arguments(...)
local a,argc={...},select('#',...)
for i=1,argc do
local t=type(a[i])
if t~='string' and t~='number' then return a,argc end
end
local s=known[a[1]]
if s=='container' then
s=a[1]..'|'..(a[2] or '')
s=known[s] or look(s)
end
if not s then return a,argc end
if s==1 then
if argc>1 then keys(a,1,1) end
return a,argc
end
local list,after=match(s,'^([^>]*)>?(.*)$')
local kind,least,at=match(list,'^(%l+)(%d+)%.?(%d*)$')
if not kind then
specs(a,argc,list)
return a,argc,nil,reply[after]
end
if argc<least+0 then return a,argc end
if dry and find(' select move keys scan dbsize randomkey flushdb flushall swapdb ',' '..kind..' ',1,true) then return a,argc,true end
local done,left=(special[kind] or special.store)(a,argc,tonumber(at))
return a,left or argc,done,reply[after]
end

local function handle(...)
local a,argc,done,after=arguments(...)
if done~=nil then return done end
if walked then sent[a[1]]=true end
local r=send(unpack(a,1,argc))
if after and type(r)=='table' and not r.err then r=after(r) end
return r
end
slow=function() return handle,arguments,special.ask end
return slow()
end

-- The log is the operator's: no store fills it or forges its lines.
local R=setmetatable({call=call,pcall=try,log=function(...)
local level=...
if select('#',...)<2 or type(level)~='number' or level<0 or level>3 then return raw.log(...) end
end,acl_check_cmd=function(...)
if known[(...)]==nil then look((...)) end
local _,arguments=slow()
dry=true
local a,argc,done=arguments(...)
dry=false
if done~=nil then return type(done)~='table' or not done.err end
return raw.acl_check_cmd(unpack(a,1,argc))
end},{__index=raw,__newindex=raw})

-- Code that a script makes sees what the script sees.
local compile,collect
compile=function(s,name)
if type(s)~='string' then return make(s,name) end
local f,e=make(s,name or s)
if not f then return f,e end
return make('local redis,server,loadstring,load=... return function(...)'..s..'\nend',name or s)(R,R,compile,collect)
end
collect=function(f,name)
local t,p={},f()
while p and p~='' do t[#t+1]=p p=f() end
return compile(table.concat(t),name or '=(load)')
end
return R,R,compile,collect,enter
end)();
