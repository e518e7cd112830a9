-- wrk's request: an order of two lines; each connection cycles through the SKUs from its own start.
-- Each order has a different customer: many orders of one customer are suspected and reported.
local threads = 0
setup = function(thread)
  threads = threads + 1
  thread:set("thread", threads)
end

local number = math.random(0, 19)
local run = os.time()
request = function()
  number = number + 1
  local body = string.format(
    '{"customer":{"email":"%d-%d-%d@example.com"},"currency":"EUR","lines":['
      .. '{"sku":"BENCH-%02d","quantity":1,"unit_price":500},'
      .. '{"sku":"BENCH-%02d","quantity":1,"unit_price":500}]}',
    run, thread, number, number % 20, (number + 7) % 20)
  return wrk.format("POST", "/orders", {
    ["Content-Type"] = "application/json",
    ["Authorization"] = "Bearer " .. (os.getenv("ORDERS_API_KEY") or ""),
  }, body)
end
