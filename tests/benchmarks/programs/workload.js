// A shop in memory: records from JSON, indexes over them, and pages rendered from them.
'use strict';
const fs = require('fs');

const customers = new Map();
const byCity = new Map();
const ordersOf = new Map();
const pages = [];
let items = 0;

for (const line of fs.readFileSync(process.argv[2], 'utf8').split('\n')) {
  if (!line) continue;
  const record = JSON.parse(line);
  if (record.kind === 'customer') {
    customers.set(record.id, record);
    if (!byCity.has(record.city)) byCity.set(record.city, new Set());
    byCity.get(record.city).add(record);
  } else {
    record.total = record.items.reduce((sum, item) => sum + item.count * item.price, 0);
    items += record.items.length;
    if (!ordersOf.has(record.customer)) ordersOf.set(record.customer, []);
    ordersOf.get(record.customer).push(record);
    record.at = new Date(record.at);
  }
}
for (const [id, orders] of ordersOf) {
  if (id % 3) continue;
  const customer = customers.get(id);
  const rows = orders.map((order) => `<tr><td>${order.id}<td>${order.state}<td>${order.total}`);
  pages.push(`<h1>${customer.name}</h1><p>${customer.note}</p><table>${rows.join('\n')}</table>`);
}
globalThis.kept = { customers, byCity, ordersOf, pages, items };
console.log('ready');
process.stdin.resume();
