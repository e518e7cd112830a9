-- wrk's request: an order of two lines, each connection through the SKUs in its own order.
local number = math.random(0, 19)
request = function()
  number = number + 1
  local body = string.format(
    '{"customer":{"email":"ada@example.com"},"currency":"EUR","lines":['
      .. '{"sku":"BENCH-%02d","quantity":1,"unit_price":500},'
      .. '{"sku":"BENCH-%02d","quantity":1,"unit_price":500}]}',
    number % 20, (number + 7) % 20)
  return wrk.format("POST", "/orders", {
    ["Content-Type"] = "application/json",
    ["Authorization"] = "Bearer " .. (os.getenv("ORDERS_API_KEY") or ""),
  }, body)
end
