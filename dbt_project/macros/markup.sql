{#- Texts that people wrote with a little markup in them: links as in Markdown, tags of HTML. -#}

{#- [label](address), all of a text or a part of it. -#}
{% macro link_pattern() -%} {{ return("[[]([^][]+)[]][(]([^() ]*)[)]") }} {%- endmacro %}


{#- The text with every link replaced by its label. -#}
{% macro without_links(text) -%}
    {{ return(adapter.dispatch("without_links", "penstock")(text)) }}
{%- endmacro %}

{% macro default__without_links(text) -%}
    regexp_replace({{ text }}, '{{ link_pattern() }}', '\1', 'g')
{%- endmacro %}
{% macro spark__without_links(text) -%} regexp_replace({{ text }}, '{{ link_pattern() }}', '$1') {%- endmacro %}


{#- The address, where a text is nothing but a link or an address. -#}
{% macro web_address(text) -%}
    {%- set link = "^" ~ link_pattern() ~ "$" -%}
    {%- set address = "^(https?://[^ <>]+)$" -%}
    case
        when {{ matches(text, link) }} then nullif({{ captured(text, link, 2) }}, '')
        when {{ matches(text, address) }} then {{ text }}
    end
{%- endmacro %}


{#-
    The text without tags of HTML, a space in the place of each. Only tags that descriptions are written with: what
    else stands between < and > is text, as in p < 0.05 and q > 1.
-#}
{% macro without_tags(text) -%}
    {%- set names = "a|b|br|code|div|em|h[1-6]|i|img|li|ol|p|pre|span|strong|sub|sup|table|tbody|td|th|tr|u|ul" -%}
    {{ replaced(text, "(?i)</?(" ~ names ~ ")([ \n/][^<>]*)?>", " ") }}
{%- endmacro %}
