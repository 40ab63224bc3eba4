var l="presence-dot",f=`
:host {
  display: inline-block;
  width: var(--presence-dot-size, .65em);
  height: var(--presence-dot-size, .65em)
}
:host([hidden]) { display: none }
span {
  --on: #1a7f37;
  --off: #6e7781;
  display: block;
  box-sizing: border-box;
  height: 100%;
  border: max(1.5px, calc(var(--presence-dot-size, .65em) / 5)) solid var(--presence-dot-offline, var(--off));
  border-radius: 50%
}
@media (prefers-color-scheme: dark) { span { --on: #3fb950; --off: #8b949e } }
[part~=online] {
  background: var(--presence-dot-online, var(--on));
  border-color: var(--presence-dot-online, var(--on))
}
[part~=unknown] { border-color: var(--presence-dot-unknown, var(--off)); border-style: dotted }
@media (prefers-reduced-motion: no-preference) { span { transition: background-color .2s, border-color .2s } }
@media (forced-colors: active) { [part~=online] { background: CanvasText } }
`,n,r,a=new Set,d,h=String,i,u,p=globalThis.HTMLElement??class{},o=class extends p{static observedAttributes=["user"];static{i=(e,t)=>{e.#o=t,e.#a()},u=e=>e.#s()}#e;#t="unknown";#o=!1;#r;#i;constructor(){super();let e=this.attachShadow({mode:"open"});n||(n=new CSSStyleSheet,n.replaceSync(f)),e.adoptedStyleSheets=[n],this.#e=document.createElement("span"),this.#e.setAttribute("role","img"),e.append(this.#e)}get state(){return this.#t}get user(){return this.getAttribute("user")??""}set user(e){e==null?this.removeAttribute("user"):this.setAttribute("user",e)}get client(){return this.#r??d}set client(e){this.#r=e,this.#s()}connectedCallback(){for(let e of["user","client"]){if(!Object.hasOwn(this,e))continue;let t=this[e];delete this[e],this[e]=t}this.#n(this.#t),a.add(this),r??=new IntersectionObserver(e=>{for(let{target:t,isIntersecting:s}of e)i(t,s&&t.isConnected)}),r.observe(this)}disconnectedCallback(){queueMicrotask(()=>{this.isConnected||(a.delete(this),r?.unobserve(this),i(this,!1))})}attributeChangedCallback(e,t,s){s!==t&&this.#s()}#s(){this.#n("unknown"),this.#a()}#a(){let{client:e,user:t}=this,s=this.#i;this.#i=this.#o&&e&&t?e.watch(t,({state:b})=>this.#n(b)):void 0,s?.()}#n(e){this.#t=e,this.#e.setAttribute("part",`dot ${e}`),this.#e.setAttribute("aria-label",h(e,this))}};function m(c,{label:e=String}={}){if(globalThis.customElements){d=c,h=e,customElements.get(l)!==o&&customElements.define(l,o);for(let t of a)u(t)}}export{o as PresenceDot,m as definePresenceDot};
//# sourceMappingURL=presence-dot.js.map
