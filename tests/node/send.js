// Submits a message as it is: node send.js '{"port", "secure", "ca", "user", "pass", "from", "to", "file"}'
const fs = require("node:fs");
const nodemailer = require("nodemailer");

async function main() {
  const wish = JSON.parse(process.argv[2]);
  const transport = nodemailer.createTransport({
    host: "127.0.0.1",
    port: wish.port,
    secure: wish.secure,
    requireTLS: !wish.secure,
    auth: { user: wish.user, pass: wish.pass },
    tls: { ca: fs.readFileSync(wish.ca), servername: "localhost" },
  });
  const sent = await transport.sendMail({
    envelope: { from: wish.from, to: [wish.to] },
    raw: fs.readFileSync(wish.file),
  });
  console.log(sent.response);
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
