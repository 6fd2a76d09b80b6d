-- Put in front of every library of functions, joined to one line, as shim.lua is.
--
-- A library runs twice: once to register its functions, when the server has nothing but register_function
-- at hand (not even a global), and then function by function, when it has what scripts have. NAMES stands for
-- what the store's functions are called by on the server, WORDS for the fields that the library's text may
-- give to register_function, SHIM for shim.lua.
--
-- A function registered by a name that the agent has not made would stand in another store's way, so the
-- server's own register_function never gets where a library could take it, and a table never goes to it as it is.
-- WALKS says of functions that may need the names of all keys which way they do (see scripts/askers.rs); it is
-- noted behind their descriptions, where the agents read it.
--
-- The server's log stays out as well: Valkey 9.1 ends when a library logs while it is loaded.
local redis,server,loadstring,load,getfenv,setfenv,_G=(function()
local raw,api,words,walks,bind,enter=redis,{},{WORDS},{WALKS}
local quiet=function() end
api.log,api.LOG_DEBUG,api.LOG_VERBOSE,api.LOG_NOTICE,api.LOG_WARNING=quiet,raw.LOG_DEBUG,raw.LOG_VERBOSE,raw.LOG_NOTICE,raw.LOG_WARNING
api.REDIS_VERSION,api.REDIS_VERSION_NUM,api.SERVER_NAME=raw.REDIS_VERSION,raw.REDIS_VERSION_NUM,raw.SERVER_NAME
api.VALKEY_VERSION,api.VALKEY_VERSION_NUM=raw.VALKEY_VERSION,raw.VALKEY_VERSION_NUM
api.bind=function(f) bind,api.bind=f,nil end

local function begin(keys,args,careful)
local p=args[#args]
args[#args]=nil
if not enter then
local env
local shared,_,compile,collect,set=(function() SHIM end)()
env=env or {_G=_G,getfenv=rawget(_G,'getfenv'),setfenv=rawget(_G,'setfenv')}
bind(shared,shared,compile,collect,env.getfenv,env.setfenv,env._G)
enter=set
end
p=enter(p,careful)
for i=1,#keys do keys[i]=string.sub(keys[i],#p+1) end
end

-- Types cannot be asked for here: what is no string or no function ends the library with an error that the
-- agent puts into the server's words.
local function plain(v) return v==nil or v==true or v==false or v=='' end
local function wrap(f,how)
local careful=how=='c'
return function(keys,args)
begin(keys,args,careful)
return f(keys,args)
end
end
api.register_function=function(...)
local n,a,f=arg.n,arg[1],arg[2]
if n==0 or n>2 then return raw.register_function(1,2,3) end
if n==2 then
local first_argument,second_argument=a,('').dump
local how=not plain(a) and (walks[''..first_argument] or walks[1])
if not plain(a) then a=NAMES..first_argument end
if not plain(f) then
second_argument(f)
f=wrap(f,how)
if how and not plain(a) then return raw.register_function({function_name=a,callback=f,description='flect:'..how}) end
end
return raw.register_function(a,f)
end
local named_arguments,t,how,noting=a,{}
if plain(a) or named_arguments.rep==('').rep then return raw.register_function('') end
for i=1,#words,2 do
local v=a[words[i]]
if v~=nil and words[i+1]==1 and not plain(v) then
local function_name=v
how=walks[''..function_name] or walks[1]
end
end
for i=1,#words,2 do
local v=a[words[i]]
if v~=nil then
local function_name,callback,description=v,('').dump,v
if words[i+1]==1 and not plain(v) then v=NAMES..function_name end
if words[i+1]==2 and not plain(v) then callback(v) v=wrap(v,how) end
if words[i+1]==3 and how and (not plain(v) or v=='') then v,noting=description..'\nflect:'..how,true end
t[words[i]]=v
end
end
if how and not noting then t.description=t.description or 'flect:'..how end
if a[1]~=nil then t[1]=a[1] end
return raw.register_function(t)
end
return api,api
end)();
redis.bind(function(...) redis,server,loadstring,load,getfenv,setfenv,_G=... end);
