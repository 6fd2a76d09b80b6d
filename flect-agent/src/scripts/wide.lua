-- The part of the shim that answers commands about all keys, and SORT by other keys, which the store's
-- user may not run. Names come from the agent's walk and from what the script itself has touched; what is
-- not there any more at that moment is left out.
--
-- READS stands for the commands after which a script may still begin anew.

-- `stringmatchlen` of the server's util.c, with its signed bytes.
local function glob(p,s)
local byte,pl,sl,skip=string.byte,#p,#s,false
local function signed(b) return b>127 and b-256 or b end
local function from(i,j,depth)
if depth>1000 then return false end
while i<=pl and j<=sl do
local c=byte(p,i)
if c==42 then
while byte(p,i+1)==42 do i=i+1 end
if i==pl then return true end
while j<=sl do
if from(i+1,j,depth+1) then return true end
if skip then return false end
j=j+1
end
skip=true
return false
elseif c==63 then j=j+1
elseif c==91 then
i=i+1
local no,hit,x=byte(p,i)==94,false,byte(s,j)
if no then i=i+1 end
while true do
local b=byte(p,i)
if b==92 and i<pl then
i=i+1
if byte(p,i)==x then hit=true end
elseif b==93 then break
elseif i>pl then i=i-1 break
elseif i+2<=pl and byte(p,i+1)==45 then
local low,high=signed(b),signed(byte(p,i+2))
if low>high then low,high=high,low end
i=i+2
if signed(x)>=low and signed(x)<=high then hit=true end
elseif b==x then hit=true end
i=i+1
end
if hit==no then return false end
j=j+1
else
if c==92 and i<pl then i=i+1 end
if byte(p,i)~=byte(s,j) then return false end
j=j+1
end
i=i+1
if j>sl then
while byte(p,i)==42 do i=i+1 end
break
end
end
return i>pl and j>sl
end
return p=='*' or from(1,1,0)
end

-- Lists of names by what was walked for: a database and a pattern, '' for all of the store, '+' for what
-- the transaction mentions. In a transaction the agent leaves them with the server just before EXEC.
local reads=READS
local function lists()
if found then return end
found={}
local at,all=1,walked
if sub(all,1,1)=='@' then
all=nil
if place then
for _,how in ipairs({sub(place,-2)=='.1' and 'getdel' or 'getex','get'}) do
local names=not all and send(how,place)
if type(names)=='string' then all=names end
end
if sub(place,-2)=='.1' then place=nil end
end
if not all then error({err='ERR the names for the transaction are gone: try again'}) end
end
local function item()
local n,start=match(all,'^(%d+):()',at)
at=start+n
return sub(all,start,at-1)
end
while at<=#all do
local wanted=item()
local list=found[wanted] or {}
found[wanted]=list
for i=1,item()+0 do list[#list+1]=item() end
end
end

-- Names are walked for outside of the script, which then begins anew: so nothing may have been changed.
local function walk(want)
if not walked then return false end
lists()
if found[''] or found[want] then return true end
for c in pairs(sent) do
if type(c)~='string' or not find(reads,';'..lower(c)..';',1,true) then return false end
end
error({err='FLECTWALK '..string.gsub(want,'.',function(c) return string.format('%02x',string.byte(c)) end)..'.'})
end

-- A function that may ask for names after it has changed something gets them all before that.
special.ask=function(c)
if type(c)~='string' or find(reads,';'..lower(c)..';',1,true) then return end
lists()
asks=nil
if not found[''] then error({err='FLECTWALK .'}) end
end

-- The names of the database whose names begin with `db`, in parts that one command takes. What has just been
-- walked for is there, but for what the script has taken away itself.
local PART=1000
local function present(names)
local out,sure={},{}
for _,name in ipairs(names) do
if sub(walked,1,1)=='@' or touched[name] then
if there(name) then out[#out+1]=name end
else sure[#sure+1]=name end
end
for first=1,#sure,PART do
local last=math.min(first+PART-1,#sure)
local all=send('exists',unpack(sure,first,last))==last-first+1
for i=first,last do if all or there(sure[i]) then out[#out+1]=sure[i] end end
end
return out
end
local function names(db,pattern)
local own,all,seen=sub(db,#Q+1),{},{}
local function take(name)
if not seen[name] then seen[name]=true all[#all+1]=name end
end
for _,name in ipairs(found[own..pattern] or {}) do take(Q..name) end
local function match(name)
if sub(name,1,#db)==db and glob(pattern,sub(name,#db+1)) then take(name) end
end
for _,list in ipairs({found[''] or {},found['+'] or {}}) do
for _,name in ipairs(list) do match(Q..name) end
end
for _,name in ipairs(found[own..'*'] or {}) do match(Q..name) end
for name in pairs(touched) do match(name) end
return present(all)
end
local function short(list,db)
for i=1,#list do list[i]=sub(list[i],#db+1) end
return list
end
local function listed(pattern)
local own=sub(P,#Q+1)
if walked then lists() end
return (walked and found[own..'*'] or walk(own..pattern)) and names(P,pattern)
end

special.keys=function(a,argc)
if argc~=2 then return end
local list=listed(text(a[2]))
return list and short(list,P) or special.store(a)
end
special.dbsize=function(a,argc)
if argc~=1 then return end
local list=listed('*')
return list and #list or special.store(a)
end
special.randomkey=function(a,argc)
if argc~=1 then return end
local list=listed('*')
if not list then return special.store(a) end
if #list==0 then return false end
special.seed=((special.seed or send('time')[2]+0)*1103515245+12345)%2147483648
return sub(list[math.floor(special.seed/65536)%#list+1],#P+1)
end
special.scan=function(a,argc)
local pattern,kind,at,c='*',nil,3,text(a[2])
local place=match(c,'^%s*[+-]?0*(%d*)$')
if not place or not find(c,'%d') or find(c,'^-[1-9]') or #place>20 or (#place==20 and place>'18446744073709551615') then return refuse('ERR invalid cursor') end
while at<=argc do
local w,v=word(a[at]),text(a[at+1])
if w=='novalues' then return refuse('ERR NOVALUES option can only be used in HSCAN')
elseif w=='noscores' then return refuse('ERR NOSCORES option can only be used in ZSCAN')
elseif at==argc then return refuse('ERR syntax error')
elseif w=='match' then pattern=v
elseif w=='type' then
kind=word(v)
if not find(' string list set zset hash stream ',' '..kind..' ',1,true) then return refuse("ERR unknown type name '"..v.."'") end
elseif w=='count' then
local n=whole(v)
if not n then return refuse('ERR value is not an integer or out of range') end
if n<1 then return refuse('ERR syntax error') end
else return refuse('ERR syntax error') end
at=at+2
end
local list=listed(pattern)
if not list then return special.store(a) end
if place~='' then return {'0',{}} end
local out={}
for _,name in ipairs(list) do
if not kind or send('type',name).ok==kind then out[#out+1]=sub(name,#P+1) end
end
return {'0',out}
end

local function flush(a,argc,every)
local mode=argc>1 and word(a[2])
if argc>2 or (mode and mode~='async' and mode~='sync') then return refuse('ERR syntax error') end
if not walk(every and '' or sub(P,#Q+1)..'*') then return special.store(a) end
local list={}
if every then
local seen={}
local function take(name) if not seen[name] then seen[name]=true list[#list+1]=name end end
for _,known in ipairs({found[''],found['+'] or {}}) do
for _,name in ipairs(known) do take(Q..name) end
end
for name in pairs(touched) do if sub(name,1,#Q)==Q then take(name) end end
else list=names(P,'*') end
sent.unlink=true
local done=send('unlink',Q..'/0:')
if type(done)=='table' then return done end
for first=1,#list,PART do send('unlink',unpack(list,first,math.min(first+PART-1,#list))) end
return {ok='OK'}
end
special.flushdb=function(a,argc) return flush(a,argc,false) end
special.flushall=function(a,argc) return flush(a,argc,true) end

special.swapdb=function(a,argc)
if argc~=3 then return end
local dbs={}
for i,which in ipairs({'first','second'}) do
local n=whole(a[i+1])
if not n or n>=2^31 or n< -2^31 then return refuse('ERR invalid '..which..' DB index') end
dbs[i]=n
end
for i=1,2 do
local n=dbs[i]
if n<0 or n>=DATABASES then return refuse('ERR DB index is out of range') end
dbs[i]=n==0 and Q..':' or Q..'/'..text(n)..':'
end
local one,two=dbs[1],dbs[2]
if one==two then return {ok='OK'} end
if not walk('') then return special.store(a) end
local firsts,seconds,both,aside=names(one,'*'),names(two,'*'),{},Q..'/0:swap'
sent.rename=true
local done=send('unlink',aside)
if type(done)=='table' then return done end
for _,name in ipairs(seconds) do both[sub(name,#two+1)]=true end
for _,name in ipairs(firsts) do
local key=sub(name,#one+1)
local to=two..key
if both[key] then
send('rename',name,aside)
send('rename',to,name)
send('rename',aside,to)
both[key]=nil
else send('rename',name,to) end
note(name)
note(to)
end
for key in pairs(both) do
send('rename',two..key,one..key)
note(two..key)
note(one..key)
end
return {ok='OK'}
end

-- `lookupKeyByPattern` of the server's sort.c.
local function value(pattern,element)
if pattern=='#' then return element end
local star=find(pattern,'*',1,true)
if not star then return false end
local arrow,field=find(pattern,'->',star+1,true),nil
if arrow and arrow+1<#pattern then field,pattern=sub(pattern,arrow+2),sub(pattern,1,arrow-1) end
local key=P..sub(pattern,1,star-1)..element..sub(pattern,star+1)
local r
if field then r=send('hget',key,field) else r=send('get',key) end
return type(r)=='string' and r
end
local function score(v)
if v=='' then return 0 end
local n=not find(v,'%s$') and tonumber(v)
if not n or n~=n or ((n==1/0 or n==-1/0) and not find(lower(v),'inf',1,true)) then return nil end
return n
end

-- SORT as `sortCommandGeneric` of the server's sort.c carries it out.
special.sorted=function(a,argc)
local gets,desc,alpha,start,count,by,store,plain,at={},false,false,0,-1,nil,nil,false,3
while at<=argc do
local w,left=word(a[at]),argc-at
if w=='asc' then desc=false
elseif w=='desc' then desc=true
elseif w=='alpha' then alpha=true
elseif w=='limit' and left>=2 then
start,count=whole(a[at+1]),whole(a[at+2])
if not start or not count then return refuse('ERR value is not an integer or out of range') end
at=at+2
elseif w=='store' and left>=1 and word(a[1])=='sort' then
store=text(a[at+1])
at=at+1
elseif w=='by' and left>=1 then
by=text(a[at+1])
plain=plain or not find(by,'*',1,true)
at=at+1
elseif w=='get' and left>=1 then
gets[#gets+1]=text(a[at+1])
at=at+1
else return refuse('ERR syntax error') end
at=at+1
end
if #gets==0 and (not by or not find(by,'*',1,true)) then return end
local key=P..text(a[2])
local kind,r=send('type',key).ok,{}
if kind=='list' then r=send('lrange',key,0,-1)
elseif kind=='set' then r=send('smembers',key)
elseif kind=='zset' then r=send('zrange',key,0,-1)
elseif kind~='none' then return refuse('WRONGTYPE Operation against a key holding the wrong kind of value') end
if r.set then
local list={}
for element in pairs(r.set) do list[#list+1]=element end
r=list
end
if plain and kind=='set' then plain,alpha,by=false,true,nil end
local n,items=#r,{}
for i=1,n do items[i]={r[plain and desc and n+1-i or i],i} end
if not plain then
for _,item in ipairs(items) do
local v=item[1]
if by then v=value(by,v) end
if alpha then item[3]=v
elseif v then
item[3]=score(v)
if not item[3] then return refuse("ERR One or more scores can't be converted into double") end
else item[3]=0 end
end
table.sort(items,function(x,y)
local v,w=x[3],y[3]
if v==w then
if alpha then return x[2]<y[2] end
v,w=x[1],y[1]
elseif alpha and not (v and w) then v,w=v and 1 or 0,w and 1 or 0 end
if desc then return v>w end
return v<w
end)
end
local first=math.min(math.max(start,0),n)
count=math.min(math.max(count,-1),n)
local last=math.min(count<0 and n or first+count,n)
local out={}
for i=first+1,last do
if #gets==0 then out[#out+1]=items[i][1] end
for _,get in ipairs(gets) do out[#out+1]=value(get,items[i][1]) end
end
if not store then return out end
local to=P..store
sent.del=true
if walked then note(to) end
if #out==0 then
send('del',to)
return 0
end
-- Stored by SORT itself, so that it is this command that watchers and listeners hear of.
local aside=Q..'/0:sort'
local done=send('unlink',aside)
for from=1,#out,PART do
for i=from,math.min(from+PART-1,#out) do out[i]=out[i] or '' end
if type(done)~='table' then done=send('rpush',aside,unpack(out,from,math.min(from+PART-1,#out))) end
end
if type(done)~='table' then done=send('sort',aside,'by','nosort','store',to) end
send('unlink',aside)
return done
end
