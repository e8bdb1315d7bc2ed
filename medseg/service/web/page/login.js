import { byId, post, say } from "./shared.js";

byId("form").addEventListener("submit", async event => {
  event.preventDefault();
  try {
    await post("/login", { token: byId("token").value });
    location.assign("/");
  } catch (error) {
    byId("token").value = "";
    say(error.message);
  }
});
byId("token").focus();
